"""Each rule on manifests: the mistake that makes it speak, and what it leaves alone."""

from __future__ import annotations

import pytest

from tests.manifest_samples import DEPLOYMENT, HPA, INFERENCE_SERVICE, RULE, RUNTIME, SECRET, SERVICE, found
from workshop_lib import manifest_rules, manifests
from workshop_lib.manifests import problems

GPU_MODEL = INFERENCE_SERVICE.replace(
    "{requests: {cpu: 1}, limits: {cpu: 1}}",
    '{requests: {nvidia.com/gpu: "1"}, limits: {nvidia.com/gpu: "1"}}',
).replace("  predictor:\n", "  predictor:\n    deploymentStrategy: {rollingUpdate: {maxSurge: 0}}\n")
GPU_DEPLOYMENT = DEPLOYMENT.replace(
    "{requests: {cpu: 1}, limits: {memory: 1Gi}}", "{requests: {nvidia.com/gpu: 1}, limits: {nvidia.com/gpu: 1}}"
).replace("spec:\n  selector", "spec:\n  strategy: {type: Recreate}\n  selector")
FIRES = {
    "annotation that is a number": (
        DEPLOYMENT,
        '{note: "1"}',
        "{note: 8888}",
        'note: 8888 is not text. Put it in quotes: "8888".',
    ),
    "annotation that is true": (
        INFERENCE_SERVICE,
        "annotations: {",
        "annotations: {auth: true, ",
        'Put it in quotes: "true".',
    ),
    "label that is false": (DEPLOYMENT, "labels: {app: api}", "labels: {app: api, on: 1}", "labels"),
    "variable that is a number": (DEPLOYMENT, 'value: "80"', "value: 80", "env.0.value: 80 is not text"),
    "pod security policy": (
        SECRET,
        "kind: Secret",
        "kind: PodSecurityPolicy",
        "left Kubernetes with 1.25. Use pod-security",
    ),
    "cluster runtime": (
        RUNTIME,
        "kind: Serving",
        "kind: ClusterServing",
        "ClusterServingRuntime is deleted by OpenShift AI",
    ),
    "invented kind": (
        RULE,
        "kind: PrometheusRule",
        "kind: ModelMonitoring",
        "ModelMonitoring never existed. Use a TrustyAI",
    ),
    "old tekton": (
        RULE,
        "monitoring.coreos.com/v1",
        "tekton.dev/v1beta1",
        "apiVersion: tekton.dev/v1beta1 is deprecated",
    ),
    "scaled service": (
        HPA,
        "kind: Deployment, name: api",
        "kind: InferenceService, name: llm",
        "Deployment llm-predictor",
    ),
    "gpu metric": (
        HPA,
        "name: cpu",
        "name: nvidia.com/gpu",
        "metrics.0.resource.name: nvidia.com/gpu is no resource metric",
    ),
    "silent alert": (RULE, 'absent(up{job="api"} == 1)', 'up{job="api"} == 0', "rules.0.expr: up == 0 is silent"),
    "removed metric": (
        RULE,
        'absent(up{job="api"} == 1)',
        "vllm:gpu_cache_usage_perc > 1",
        "Use vllm:kv_cache_usage_perc",
    ),
    "metric without total": (
        RULE,
        "absent(",
        "rate(ovms_requests_success_total[1m]) + absent(",
        "Use ovms_requests_success.",
    ),
    "predict on OVMS": (
        DEPLOYMENT,
        'value: "80"',
        "value: http://x/v1/models/m:predict",
        "env.0.value: OpenVINO Model Server",
    ),
    "no mode": (INFERENCE_SERVICE, "serving.kserve.io/deploymentMode", "other", "deploymentMode is missing. Write"),
    "serverless": (INFERENCE_SERVICE, "RawDeployment", "Serverless", "deploymentMode is Serverless. Write"),
    "canary percent": (
        INFERENCE_SERVICE,
        "    model:\n",
        "    canaryTrafficPercent: 10\n    model:\n",
        "only Serverless reads it",
    ),
    "gpu not limited": (
        GPU_MODEL,
        'limits: {nvidia.com/gpu: "1"}',
        "limits: {cpu: 1}",
        "requests 1, limits none of nvidia.com/gpu",
    ),
    "gpu not equal": (
        GPU_DEPLOYMENT,
        "requests: {nvidia.com/gpu: 1}",
        "requests: {nvidia.com/gpu: 2}",
        "requests 2, limits 1",
    ),
    "surge of a model": (
        GPU_MODEL,
        "maxSurge: 0",
        "maxSurge: 1",
        "predictor.deploymentStrategy: a release starts a further pod",
    ),
    "default surge": (
        GPU_DEPLOYMENT,
        "  strategy: {type: Recreate}\n",
        "",
        "spec.strategy: a release starts a further pod (maxSurge 25%)",
    ),
    "plain secret": (
        SECRET,
        "stringData: {key: replace-me}",
        "data: {key: replace-me}",
        "data.key: plain text where base64 belongs",
    ),
    "secret like base64": (SECRET, "stringData: {key: replace-me}", "data: {key: password}", "data.key: plain text"),
    "user": (
        DEPLOYMENT,
        "      containers:",
        "      securityContext: {runAsUser: 1001}\n      containers:",
        "runAsUser 1001 is outside",
    ),
    "group": (
        DEPLOYMENT,
        "      containers:",
        "      securityContext: {fsGroup: 0}\n      containers:",
        "fsGroup 0 is outside",
    ),
    "container user": (
        RUNTIME,
        "      image",
        "      securityContext: {runAsUser: 0}\n      image",
        "runAsUser 0 is outside",
    ),
    "latest": (DEPLOYMENT, "api:1.0", "api:latest", "containers.0.image: example/api:latest names no version"),
    "no tag": (
        DEPLOYMENT,
        "example/api:1.0",
        "registry:5000/api",
        "containers.0.image: registry:5000/api names no version",
    ),
    "no resources": (
        DEPLOYMENT,
        "          resources: {requests: {cpu: 1}, limits: {memory: 1Gi}}",
        "",
        "no requests and no limits",
    ),
    "no limits": (INFERENCE_SERVICE, ", limits: {cpu: 1}", "", "predictor.model.resources: no limits"),
    "no readiness": (
        DEPLOYMENT,
        "readinessProbe: &probe",
        "startupProbe: &probe",
        "containers.0.readinessProbe: no readinessProbe",
    ),
    "no liveness": (RUNTIME, "livenessProbe", "startupProbe", "containers.0.livenessProbe: no livenessProbe"),
    "service without pods": (
        DEPLOYMENT + "---" + SERVICE,
        "{selector: {app: api}",
        "{selector: {app: apis}",
        "spec.selector: no pod here",
    ),
    "service to no port": (
        DEPLOYMENT + "---" + SERVICE,
        "targetPort: http",
        "targetPort: 8080",
        "no container offers the port 8080",
    ),
    "two autoscalers": (
        INFERENCE_SERVICE + "---" + HPA,
        "kind: Deployment, name: api",
        "kind: Deployment, name: forecaster-predictor",
        "KServe has an autoscaler for forecaster-predictor already",
    ),
}


@pytest.mark.parametrize(("text", "old", "new", "expected"), FIRES.values(), ids=FIRES)
def test_each_rule_fires(text: str, old: str, new: str, expected: str) -> None:
    assert old in text
    assert expected in "\n".join(found(text.replace(old, new, 1)))
    assert expected not in "\n".join(found(text))


def test_every_rule_is_tried() -> None:
    """Without a rule, one of the cases above says nothing any more."""
    for rule in (*manifest_rules.RULES, *manifest_rules.SET_RULES):
        others = [other for other in manifest_rules.RULES if other is not rule]
        sets = [other for other in manifest_rules.SET_RULES if other is not rule]
        silent = []
        for name, (text, old, new, expected) in FIRES.items():
            documents = manifests.parse(text.replace(old, new, 1), "f")
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(manifests, "RULES", others)
                patch.setattr(manifests, "SET_RULES", sets)
                if expected not in "\n".join(f"{p.field}: {p.what}. {p.advice}" for p in problems(documents)):
                    silent.append(name)
        assert silent, rule.__name__


ALLOWED = {
    "alert with absent beside": RULE.replace("}]}]", "}, {alert: Late, expr: up == 0}]}]"),
    "digest": DEPLOYMENT.replace("api:1.0", "api@sha256:0123"),
    "key store": SECRET.replace("stringData: {key: replace-me}", "data: {key: " + "/v9A" * 40 + "}"),
    "base64": SECRET.replace("stringData: {key: replace-me}", "data: {key: cmVwbGFjZS1tZQ==}"),
    "init container without probes": DEPLOYMENT.replace(
        "      containers:",
        "      initContainers: [{name: i, image: a@sha256:0, resources: {requests: {cpu: 1}, limits: {cpu: 1}}}]\n"
        "      containers:",
    ),
    "own autoscaler": INFERENCE_SERVICE.replace(
        "annotations: {", "annotations: {serving.kserve.io/autoscalerClass: external, "
    )
    + "---"
    + HPA.replace("name: api}\n  metrics", "name: forecaster-predictor}\n  metrics"),
    "service of KServe's pods": DEPLOYMENT
    + "---"
    + SERVICE.replace("{app: api}", "{serving.kserve.io/inferenceservice: f}"),
    "new metric": RULE.replace('absent(up{job="api"} == 1)', "vllm:kv_cache_usage_perc > 0.9"),
    "triggers": RULE.replace("monitoring.coreos.com/v1", "triggers.tekton.dev/v1beta1"),
}


@pytest.mark.parametrize("text", ALLOWED.values(), ids=ALLOWED)
def test_rules_leave_what_is_right_alone(text: str) -> None:
    assert found(text) == []
