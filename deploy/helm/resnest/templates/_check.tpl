{{- /* Contradictions that a schema can't express, because they compare values. */}}
{{- define "resnest.check" -}}
{{- $values := .Values -}}
{{- $seconds := $values.gateway.settings.RESNEST_REQUEST_SECONDS | default 60 }}
{{- range $component := list "triton" "gateway" }}
  {{- $own := get $values $component }}
  {{- with $own.autoscaling }}
    {{- if gt (int .minReplicas) (int .maxReplicas) }}
      {{- fail (printf "values: at '/%s/autoscaling/minReplicas': %v is more than maxReplicas, %v" $component .minReplicas .maxReplicas) }}
    {{- end }}
  {{- end }}
  {{- if lt (float64 $own.drainSeconds) (float64 $seconds) }}
    {{- fail (printf "values: at '/%s/drainSeconds': %v is less than RESNEST_REQUEST_SECONDS, %v, so that accepted requests would be cut off" $component $own.drainSeconds $seconds) }}
  {{- end }}
{{- end }}
{{- with $values.models }}
  {{- if and .names .default (not (has .default .names)) }}
    {{- fail (printf "values: at '/models/default': %s is none of models.names, %s" .default (join ", " .names)) }}
  {{- end }}
{{- end }}
{{- end }}
