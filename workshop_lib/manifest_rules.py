"""Mistakes in manifests that every schema lets through, each as one short rule.

A rule is given a document and yields its findings: (field, what is wrong, what to do). A rule on the whole set
is given all documents together. What they say holds for OpenShift AI 2.25 to 3.5.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

Finding = tuple[str, str, str]
"""Field, what is wrong, what to do."""

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Rollout")
"""Kinds whose containers run all the time; a Job's end by themselves."""
GPU = re.compile(r"^(nvidia|amd|habana|intel)\b.*/")
_PREDICT = re.compile(r"/v1/models/\S*:predict")
_UP_IS_ZERO = re.compile(r"\bup\s*(\{[^}]*\})?\s*==\s*(bool\s*)?0\b")
_ABSENT = re.compile(r"\babsent(_over_time)?\(\s*up\b")
_USERS = ("runAsUser", "runAsGroup", "fsGroup")
_GONE = {
    "PodSecurityPolicy": "left Kubernetes with 1.25; use pod-security.kubernetes.io labels and the SCC restricted-v2",
    "ClusterServingRuntime": "is deleted by OpenShift AI up to 3.3; use a ServingRuntime in the namespace",
    "ModelMonitoring": "never existed; use a TrustyAIService or user workload monitoring",
    "ClusterTask": "left Tekton; use a Task, found by the cluster resolver",
}
_METRICS = {
    "vllm:gpu_cache_usage_perc": "vllm:kv_cache_usage_perc",
    "vllm:time_per_output_token_seconds": "vllm:inter_token_latency_seconds",
    "ovms_requests_success_total": "ovms_requests_success",
    "ovms_requests_fail_total": "ovms_requests_fail",
}


@dataclass(frozen=True)
class Document:
    """One YAML document and where it stands."""

    file: str
    number: int
    """Its place in the file, from 1."""
    line: int
    body: dict[str, Any]

    @property
    def kind(self) -> str:
        """Such as ``Deployment``; empty when missing."""
        return str(self.body.get("kind") or "")

    @property
    def api_version(self) -> str:
        """Such as ``apps/v1``; empty when missing."""
        return str(self.body.get("apiVersion") or "")

    @property
    def name(self) -> str:
        """Its ``metadata.name``; empty when missing."""
        return str(self.get("metadata.name") or "")

    def get(self, path: str) -> Any:
        """The value at a dotted path of keys, or None."""
        value: Any = self.body
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        return value


@dataclass(frozen=True)
class Problem:
    """Something wrong in a document."""

    document: Document
    field: str
    what: str
    advice: str

    def __str__(self) -> str:
        where = f"{self.document.file}, line {self.document.line} (document {self.document.number})"
        return f"{where}, {self.document.kind} {self.document.name}, {self.field}: {self.what}. {self.advice}"


def walk(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Every value below a value with its dotted path, outermost first."""
    yield path, value
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(value, dict):
        items = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    for key, item in items:
        yield from walk(item, f"{path}.{key}" if path else str(key))


def containers(document: Document, *, lists: Sequence[str] = ("containers", "initContainers")) -> list[tuple[str, Any]]:
    """Every container of a document with its path; also the ``model`` of an InferenceService."""
    found = [
        (f"{path}.{number}", container)
        for path, value in walk(document.body)
        if path.rpartition(".")[2] in lists and isinstance(value, list)
        for number, container in enumerate(value)
        if isinstance(container, dict)
    ]
    model = document.get("spec.predictor.model") if document.kind == "InferenceService" else None
    return [*found, ("spec.predictor.model", model)] if isinstance(model, dict) else found


def expressions(document: Document) -> list[tuple[str, str]]:
    """Every PromQL text of a document with its path: rules, queries of autoscalers and of analyses."""
    return [
        (path, value)
        for path, value in walk(document.body)
        if path.rpartition(".")[2] in ("expr", "query") and isinstance(value, str)
    ]


def annotations_are_text(document: Document) -> Iterator[Finding]:
    """Labels, annotations and variables hold text; YAML makes true, 8888 or 1.5 something else."""
    for path, value in walk(document.body):
        *_, parent, key = ("", "", *path.split("."))
        in_env = key == "value" and re.search(r"\benv\.\d+\.value$", path) is not None
        in_config = parent == "data" and document.kind in ("ConfigMap", "Secret")
        if (parent in ("labels", "annotations", "matchLabels") or in_env or in_config) and (
            value is None or isinstance(value, bool | int | float)
        ):
            said = json.dumps(value)
            yield path, f"{said} is not text", f'Put it in quotes: "{said}".'


def kind_exists(document: Document) -> Iterator[Finding]:
    """Kinds that were removed, or that only examples know."""
    if document.kind in _GONE:
        yield "kind", f"{document.kind} {_GONE[document.kind].partition(';')[0]}", _sentence(_GONE[document.kind])
    if re.match(r"tekton\.dev/v1(alpha|beta)1$", document.api_version):
        yield "apiVersion", f"{document.api_version} is deprecated", "Use tekton.dev/v1."


def _sentence(text: str) -> str:
    advice = text.partition(";")[2].strip()
    return advice[:1].upper() + advice[1:] + "."


def autoscaler_target(document: Document) -> Iterator[Finding]:
    """An autoscaler sets replicas through the scale subresource, which an InferenceService does not have."""
    scales = document.kind in ("HorizontalPodAutoscaler", "ScaledObject")
    if scales and document.get("spec.scaleTargetRef.kind") == "InferenceService":
        name = document.get("spec.scaleTargetRef.name")
        yield (
            "spec.scaleTargetRef.kind", "an InferenceService cannot be scaled from outside",
            f"Name the Deployment {name}-predictor, and set serving.kserve.io/autoscalerClass: external.",
        )  # fmt: skip


def autoscaler_metric(document: Document) -> Iterator[Finding]:
    """The metrics server measures cpu and memory; anything else never has a value."""
    if document.kind != "HorizontalPodAutoscaler":
        return
    for number, metric in enumerate(document.get("spec.metrics") or []):
        for source in ("resource", "containerResource"):
            name = (metric.get(source) or {}).get("name")
            if name not in (None, "cpu", "memory"):
                yield (
                    f"spec.metrics.{number}.{source}.name", f"{name} is no resource metric, so it never has a value",
                    "Use cpu or memory here, or an External metric such as the number of waiting requests.",
                )  # fmt: skip


def silent_alert(document: Document) -> Iterator[Finding]:
    """When all pods are gone there is no series `up`, so nothing equals zero."""
    found = expressions(document)
    if any(_ABSENT.search(expression) for _, expression in found):
        return
    for path, expression in found:
        if _UP_IS_ZERO.search(expression):
            yield path, "up == 0 is silent when no pod is left", "Use absent(up{…} == 1)."


def metric_names(document: Document) -> Iterator[Finding]:
    """Metrics that were renamed or never carried that name."""
    for path, expression in expressions(document):
        for wrong, right in _METRICS.items():
            if re.search(rf"(?<![\w:]){re.escape(wrong)}(?!\w)", expression):
                yield path, f"no server exports {wrong}", f"Use {right}."


def predict_path(document: Document) -> Iterator[Finding]:
    """OpenVINO Model Server speaks the Open Inference Protocol."""
    for path, value in walk(document.body):
        if isinstance(value, str) and _PREDICT.search(value):
            yield path, "OpenVINO Model Server has no :predict", "Use POST /v2/models/NAME/infer."


def deployment_mode(document: Document) -> Iterator[Finding]:
    """Without it OpenShift AI 2.25 would use Serverless, and KServe refuses a deploymentStrategy."""
    field = "metadata.annotations"
    if document.kind == "InferenceService":
        mode = (document.get(field) or {}).get("serving.kserve.io/deploymentMode")
        if mode != "RawDeployment":
            yield (
                field, f"serving.kserve.io/deploymentMode is {mode or 'missing'}",
                "Write serving.kserve.io/deploymentMode: RawDeployment, which every version accepts.",
            )  # fmt: skip
        if document.get("spec.predictor.canaryTrafficPercent") is not None:
            yield (
                "spec.predictor.canaryTrafficPercent", "only Serverless reads it",
                "Use two InferenceServices and a Route with alternateBackends.",
            )  # fmt: skip


def gpu_requests(document: Document) -> Iterator[Finding]:
    """A GPU is not shared: Kubernetes takes it only when request and limit are the same."""
    for path, container in containers(document):
        resources = container.get("resources") or {}
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        for name in sorted({*limits, *requests}):
            if GPU.match(name) and str(limits.get(name)) != str(requests.get(name)):
                said = f"requests {requests.get(name, 'none')}, limits {limits.get(name, 'none')} of {name}"
                yield f"{path}.resources", said, "Give both the same number."


def gpu_surge(document: Document) -> Iterator[Finding]:
    """A rolling update starts the new pod first, which waits for ever for the GPU of the old one."""
    takes_gpu = any(
        GPU.match(name)
        for _, container in containers(document)
        for name in ((container.get("resources") or {}).get("limits") or {})
    )
    field = {"Deployment": "spec.strategy", "InferenceService": "spec.predictor.deploymentStrategy"}.get(document.kind)
    if takes_gpu and field:
        strategy = document.get(field) or {}
        surge = (strategy.get("rollingUpdate") or {}).get("maxSurge", "25%")
        if strategy.get("type") != "Recreate" and str(surge) not in ("0", "0%"):
            yield (
                field, f"a release starts a further pod (maxSurge {surge}), for which no GPU is left",
                "Set rollingUpdate: {maxSurge: 0, maxUnavailable: 1}, or type: Recreate.",
            )  # fmt: skip


def secret_data(document: Document) -> Iterator[Finding]:
    """`data` holds base64. A password may look like base64 by chance, but does not decode to text."""
    if document.kind != "Secret" or document.api_version != "v1":
        return
    for key, value in (document.get("data") or {}).items():
        try:
            decoded = base64.b64decode("".join(str(value).split()), validate=True)
            if len(decoded) < 64:  # longer ones may be a key store
                decoded.decode()
        except (binascii.Error, UnicodeDecodeError):
            yield f"data.{key}", "plain text where base64 belongs", "Write it below stringData, and never to Git."


def assigned_user(document: Document) -> Iterator[Finding]:
    """OpenShift gives each namespace its own range of user ids; restricted-v2 refuses any other."""
    for path, value in walk(document.body):
        parent, _, key = path.rpartition(".")
        if key in _USERS and parent.endswith("ecurityContext"):
            yield path, f"{key} {value} is outside the range that OpenShift assigns", "Leave it out."


def image_tags(document: Document) -> Iterator[Finding]:
    """Without a version nobody knows what runs, and a restart may bring something else."""
    for path, container in containers(document):
        image = container.get("image")
        if isinstance(image, str) and "@sha256:" not in image and "$(" not in image:
            tag = image.rpartition("/")[2].partition(":")[2]
            if tag in ("", "latest"):
                yield f"{path}.image", f"{image} names no version", "Give it a tag, or better a digest."


def container_limits(document: Document) -> Iterator[Finding]:
    """What a pod may take, and how the cluster knows that it is well."""
    always = document.kind in WORKLOADS
    for path, container in containers(document):
        serving = document.kind == "ServingRuntime"  # its resources come with the InferenceService
        if path.endswith("predictor.model") or always or document.kind in ("Job", "CronJob", "Pod"):
            resources = container.get("resources") or {}
            missing = [part for part in ("requests", "limits") if not resources.get(part)]
            if missing:
                yield f"{path}.resources", f"no {' and no '.join(missing)}", "Say what it needs and may take."
        if (always or serving) and ".initContainers." not in f".{path}":
            for probe in ("readinessProbe", "livenessProbe"):
                if not container.get(probe):
                    yield f"{path}.{probe}", f"no {probe}", "Name a path that answers only when it is well."


def two_autoscalers(documents: Sequence[Document]) -> Iterator[Problem]:
    """KServe makes an autoscaler of its own for each InferenceService unless told not to."""
    kept = {
        f"{document.name}-predictor"
        for document in documents
        if document.kind == "InferenceService"
        and (document.get("metadata.annotations") or {}).get("serving.kserve.io/autoscalerClass")
        not in ("external", "none")
    }
    for document in documents:
        if document.kind in ("HorizontalPodAutoscaler", "ScaledObject"):
            name = document.get("spec.scaleTargetRef.name")
            if name in kept:
                yield Problem(
                    document, "spec.scaleTargetRef.name", f"KServe has an autoscaler for {name} already",
                    "Set serving.kserve.io/autoscalerClass: external on the InferenceService.",
                )  # fmt: skip


def services_reach_pods(documents: Sequence[Document]) -> Iterator[Problem]:
    """Where the pods are in the same set, a Service's selector and ports must find them."""
    pods = [document for document in documents if document.kind in WORKLOADS]
    elsewhere = any(pod.get("spec.workloadRef") for pod in pods)  # a Rollout whose pods a Deployment describes
    for service in (document for document in documents if document.kind == "Service"):
        selector = service.get("spec.selector") or {}
        app = selector.get("app.kubernetes.io/name")
        if not pods or "serving.kserve.io/inferenceservice" in selector or not selector:
            continue  # KServe makes those pods
        matched = [pod for pod in pods if selector.items() <= (pod.get("spec.template.metadata.labels") or {}).items()]
        if not matched and not elsewhere:
            yield Problem(service, "spec.selector", f"no pod here has these labels ({app or selector})",
                          "Compare with the labels of the Deployment's template.")  # fmt: skip
        for number, port in enumerate(service.get("spec.ports") or []):
            wanted = port.get("targetPort", port.get("port"))
            known = {
                value
                for pod in matched
                for _, container in containers(pod, lists=("containers",))
                for offered in container.get("ports") or []
                for value in (offered.get("name"), offered.get("containerPort"))
            }
            if matched and wanted not in known:
                yield Problem(service, f"spec.ports.{number}.targetPort", f"no container offers the port {wanted}",
                              "Compare with the container's ports.")  # fmt: skip


RULES: tuple[Callable[[Document], Iterator[Finding]], ...] = (
    annotations_are_text, kind_exists, autoscaler_target, autoscaler_metric, silent_alert, metric_names, predict_path,
    deployment_mode, gpu_requests, gpu_surge, secret_data, assigned_user, image_tags, container_limits,
)  # fmt: skip
SET_RULES: tuple[Callable[[Sequence[Document]], Iterator[Problem]], ...] = (two_autoscalers, services_reach_pods)
