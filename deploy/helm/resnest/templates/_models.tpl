{{- /* Init containers that bring Triton's model repository, and check that there is one. */}}

{{- define "resnest.modelsMount" -}}
{{- $claim := .Values.models.source.persistentVolumeClaim | default dict -}}
- name: models
  mountPath: /models
  readOnly: true
  {{- with $claim.subPath }}
  subPath: {{ . }}
  {{- end }}
{{- end }}

{{- define "resnest.initResources" -}}
resources:
  requests: {cpu: 100m, memory: 128Mi}
  limits: {cpu: "1", memory: 1Gi}
securityContext:
  {{- include "resnest.containerSecurity" . | nindent 2 }}
terminationMessagePolicy: FallbackToLogsOnError
{{- end }}

{{- define "resnest.copyModels" -}}
{{- with .Values.models.source.objectStore }}
- name: copy-models
  image: {{ .image | default "docker.io/rclone/rclone:1.69.1" }}
  imagePullPolicy: {{ $.Values.images.pullPolicy }}
  # No file of rclone's configuration. Contents are compared with the store's checksums.
  command: [rclone, --config=, copy, {{ printf ":s3:%s" (trimPrefix "s3://" .url) | quote }}, /models]
  env:
    - {name: RCLONE_S3_PROVIDER, value: {{ ternary "Other" "AWS" (not (empty .endpoint)) }}}
    - {name: RCLONE_S3_ENV_AUTH, value: "true"}
    {{- with .endpoint }}
    - {name: RCLONE_S3_ENDPOINT, value: {{ . | quote }}}
    {{- end }}
    {{- with .region }}
    - {name: RCLONE_S3_REGION, value: {{ . | quote }}}
    {{- end }}
    {{- with .existingSecret }}
    {{- range list "AWS_ACCESS_KEY_ID" "AWS_SECRET_ACCESS_KEY" }}
    - {name: {{ . }}, valueFrom: {secretKeyRef: {name: {{ $.Values.models.source.objectStore.existingSecret }}, key: {{ . }}}}}
    {{- end }}
    {{- end }}
  {{- include "resnest.initResources" $ | nindent 2 }}
  volumeMounts:
    - {name: models, mountPath: /models}
{{- end }}
{{- with .Values.models.source.image }}
- name: copy-models
  image: {{ .reference }}
  imagePullPolicy: {{ $.Values.images.pullPolicy }}
  command: [cp, -R, {{ printf "%s/." (trimSuffix "/" (.path | default "/models")) | quote }}, /models]
  {{- include "resnest.initResources" $ | nindent 2 }}
  volumeMounts:
    - {name: models, mountPath: /models}
{{- end }}
{{- end }}

{{- define "resnest.checkModels" }}
# Triton with an empty repository would be ready.
- name: check-models
  image: {{ include "resnest.image" (dict "root" . "component" "triton") }}
  imagePullPolicy: {{ .Values.images.pullPolicy }}
  command:
    - sh
    - -c
    - |
      grep -qs resnest_card /models/*/config.pbtxt && exit 0
      echo "The model repository has no model for Triton: /models/<model>/config.pbtxt, that a resnest command wrote." >&2
      echo "It comes from $SOURCE, and contains: $(ls /models | head -n 20 | tr '\n' ' ')" >&2
      exit 1
  env:
    - {name: SOURCE, value: {{ .Values.models.source | toJson | quote }}}
  {{- include "resnest.initResources" . | nindent 2 }}
  volumeMounts:
    {{- include "resnest.modelsMount" . | nindent 4 }}
{{- end }}
