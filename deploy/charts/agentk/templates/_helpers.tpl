{{- define "agentk.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 53 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 53 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "agentk.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "agentk.name" .) -}}
{{- end -}}

{{- define "agentk.tokenSecret" -}}
{{- .Values.tokenSecret.name | default (printf "%s-token" (include "agentk.name" .)) -}}
{{- end -}}

{{- define "agentk.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "agentk.labels" -}}
{{ include "agentk.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{/* Names of cluster-wide objects carry the namespace, so that two releases do not meet. */}}
{{- define "agentk.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "agentk.name" .) -}}
{{- end -}}
