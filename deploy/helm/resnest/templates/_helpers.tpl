{{- define "resnest.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "resnest.labels" -}}
{{ include "resnest.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: resnest-serving
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- /* Metadata of a component's resource: a dict of root and component. */}}
{{- define "resnest.metadata" -}}
name: {{ .root.Release.Name }}-{{ .component }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "resnest.labels" . | nindent 2 }}
{{- end }}

{{- define "resnest.image" -}}
{{- $image := get .root.Values.images .component -}}
{{- $usual := ternary "resnest-triton-gpu" "resnest-triton" (eq .root.Values.flavour "gpu") -}}
{{- with .root.Values.images.registry }}{{ trimSuffix "/" . }}/{{ end -}}
{{ $image.repository | default $usual }}:{{ $image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- /* The user that the images of a flavour are made for. */}}
{{- define "resnest.user" -}}
{{ and (eq .component "triton") (eq .root.Values.flavour "gpu") | ternary 1000 10001 }}
{{- end }}

{{- define "resnest.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* What the pods of both components have in common. */}}
{{- define "resnest.pod" -}}
{{- $values := get .root.Values .component -}}
serviceAccountName: {{ .root.Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ include "resnest.user" . }}
  runAsGroup: {{ include "resnest.user" . }}
  seccompProfile: {type: RuntimeDefault}
# The wait before SIGTERM, the time limit for requests in flight, and 10 s to end.
terminationGracePeriodSeconds: {{ add $values.preStopSeconds $values.drainSeconds 10 }}
topologySpreadConstraints:
  {{- range list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    matchLabelKeys: [pod-template-hash]
    labelSelector:
      matchLabels:
        {{- include "resnest.selector" $ | nindent 8 }}
  {{- end }}
{{- with $values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- /* The beginning of a Deployment's spec. */}}
{{- define "resnest.deployment" -}}
{{- $values := get .root.Values .component -}}
{{- if not $values.autoscaling.enabled }}
replicas: {{ $values.replicas }}
{{- end }}
revisionHistoryLimit: 3
# A pod ends only when another is ready in its place.
strategy:
  type: RollingUpdate
  rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
selector:
  matchLabels:
    {{- include "resnest.selector" . | nindent 4 }}
{{- end }}

{{- /* Requests and limits, without amounts that are null, and with a pod's GPUs. */}}
{{- define "resnest.resources" -}}
{{- $values := get .root.Values .component -}}
{{- $limits := $values.resources.limits | default dict -}}
{{- if and (eq .component "triton") (eq .root.Values.flavour "gpu") -}}
  {{- $limits = merge (dict "nvidia.com/gpu" $values.gpus) $limits -}}
{{- end -}}
{{- range $kind, $amounts := dict "requests" $values.resources.requests "limits" $limits }}
{{ $kind }}:
  {{- range $name, $amount := $amounts }}
  {{- if ne $amount nil }}
  {{ $name }}: {{ $amount | toString | quote }}
  {{- end }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* A setting as the environment has it: YAML's numbers are floating-point, and 33554432 would be 3.3554432e+07. */}}
{{- define "resnest.setting" -}}
{{- if and (kindIs "float64" .) (eq . (floor .)) }}{{ int64 . }}{{ else }}{{ . }}{{ end }}
{{- end }}
