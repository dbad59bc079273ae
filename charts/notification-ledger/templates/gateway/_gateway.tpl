{{/*
The gateway's file, and what follows from it. Where it listens is the chart's to say; which namespaces it may write to are
those that its sources name.
*/}}

{{- define "ledger.gateway.settings" -}}
{{- $config := deepCopy (.Values.gateway.config | default dict) -}}
{{- $_ := set $config "listen" ":8080" -}}
{{- $_ := set $config "healthProbeAddr" ":8081" -}}
{{- $_ := set $config "metricsAddr" ":9090" -}}
{{- if include "ledger.gateway.expects" . -}}
{{- $_ := set $config "leases" (dict "namespace" .Release.Namespace "prefix" (include "ledger.component" (list . "gateway"))) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* Whether a source has tokens reviewed: then the gateway asks the API server whose they are and what they may. */}}
{{- define "ledger.gateway.reviews" -}}
{{- range .Values.gateway.config.sources -}}{{- if hasKey (.auth | default dict) "tokenReview" -}}yes{{- end -}}{{- end -}}
{{- end -}}

{{/* Whether a source is expected to send: then the gateway keeps a Lease for it. */}}
{{- define "ledger.gateway.expects" -}}
{{- range .Values.gateway.config.sources -}}{{- if hasKey . "expectEvery" -}}yes{{- end -}}{{- end -}}
{{- end -}}

{{/* Namespaces of all sources, as a JSON list. A template is not a namespace: then `namespaces` has them. */}}
{{- define "ledger.gateway.namespaces" -}}
{{- $found := list -}}
{{- range .Values.gateway.config.sources -}}
{{- if not (contains "{{" (toString .namespace)) -}}{{- $found = append $found .namespace -}}{{- end -}}
{{- $found = concat $found (.namespaces | default list) -}}
{{- end -}}
{{- $found | uniq | sortAlpha | toJson -}}
{{- end -}}
