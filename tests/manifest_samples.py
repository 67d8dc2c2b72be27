"""Small manifests without a mistake, which tests change to make one; and when tests can render."""

from __future__ import annotations

import os
import shutil

import pytest

from workshop_lib import manifests
from workshop_lib.manifests import problems


def skip_without_kubectl() -> None:
    """Skip the test where nothing renders kustomize folders; in CI it fails instead."""
    if not os.environ.get("CI") and not shutil.which("kubectl") and not shutil.which("oc"):
        pytest.skip("neither kubectl nor oc is installed")


DEPLOYMENT = """
apiVersion: apps/v1
kind: Deployment
metadata:
  name: api
  annotations: {note: "1"}
spec:
  selector: {matchLabels: {app: api}}
  template:
    metadata: {labels: {app: api}}
    spec:
      containers:
        - name: api
          image: example/api:1.0
          env: [{name: PORT, value: "80"}]
          ports: [{name: http, containerPort: 80}]
          readinessProbe: &probe {httpGet: {path: /, port: http}}
          livenessProbe: *probe
          resources: {requests: {cpu: 1}, limits: {memory: 1Gi}}
"""
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: api}
spec: {selector: {app: api}, ports: [{port: 80, targetPort: http}]}
"""
INFERENCE_SERVICE = """
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: forecaster
  annotations: {serving.kserve.io/deploymentMode: RawDeployment}
spec:
  predictor:
    model:
      modelFormat: {name: onnx}
      resources: {requests: {cpu: 1}, limits: {cpu: 1}}
"""
RUNTIME = """
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata: {name: runtime}
spec:
  containers:
    - name: kserve-container
      image: example/runtime:1.0
      readinessProbe: {httpGet: {path: /, port: 80}}
      livenessProbe: {httpGet: {path: /, port: 80}}
"""
HPA = """
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: api}
spec:
  maxReplicas: 3
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: api}
  metrics: [{type: Resource, resource: {name: cpu, target: {type: Utilization, averageUtilization: 70}}}]
"""
RULE = """
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: alerts}
spec: {groups: [{name: g, rules: [{alert: Down, expr: 'absent(up{job="api"} == 1)'}]}]}
"""
SECRET = """
apiVersion: v1
kind: Secret
metadata: {name: secret}
stringData: {key: replace-me}
"""
GOOD = {
    "deployment": DEPLOYMENT, "service": SERVICE, "inference service": INFERENCE_SERVICE, "runtime": RUNTIME,
    "hpa": HPA, "rule": RULE, "secret": SECRET,
}  # fmt: skip


def found(text: str) -> list[str]:
    """Every problem of the documents in a text: field, what is wrong, what to do."""
    return [f"{problem.field}: {problem.what}. {problem.advice}" for problem in problems(manifests.parse(text, "f"))]
