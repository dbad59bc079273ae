{{/*
The controller's three inputs: settings, routing, and where Redis is.

The settings are `config` with what the chart knows better. Redis's URL holds no secret: passwords, and
URLs that hold one, are files beside it (`passwordFile`, `urlFile`).
*/}}

{{- define "ledger.settings" -}}
{{- $config := deepCopy (.Values.config | default dict) -}}
{{- $namespaces := list -}}
{{- if .Values.watch.all -}}
{{- $namespaces = "*" -}}
{{- else if .Values.watch.namespaces -}}
{{- $namespaces = uniq .Values.watch.namespaces -}}
{{- end -}}
{{- $_ := set $config "controller" (dict "metricsAddr" ":9090" "healthProbeAddr" ":8081" "namespaces" $namespaces) -}}
{{- $delivery := $config.delivery | default dict -}}
{{- $_ := set $delivery "credentials" (dict "dir" "/etc/notification/credentials") -}}
{{- $_ := set $config "delivery" $delivery -}}
{{- if not $delivery.onOperatorError -}}
{{- $_ := set $delivery "onOperatorError" "hold" -}}
{{- end -}}
{{- $pagerduty := $delivery.pagerduty | default dict -}}
{{- if not (kindIs "bool" $pagerduty.dedupNamespace) -}}
{{- /* Two objects of one name in two namespaces must not be one incident, unless somebody says so. */ -}}
{{- $_ := set $pagerduty "dedupNamespace" (eq (include "ledger.shared" .) "true") -}}
{{- end -}}
{{- $_ := set $delivery "pagerduty" $pagerduty -}}
{{- with include "ledger.datastorage" . | fromYaml -}}
{{- $_ := set $config "datastorage" . -}}
{{- end -}}
{{- with include "ledger.auditToken" . -}}
{{- $_ := set $config.datastorage "tokenFile" (printf "%s/token" .) -}}
{{- end -}}
{{- $sharding := $config.sharding | default dict -}}
{{- $_ := set $sharding "leaseName" (include "ledger.lease" .) -}}
{{- $_ := set $config "sharding" $sharding -}}
{{- if .Values.admission.enabled -}}
{{- $_ := set $config "sync" (merge (dict "statusPolicy" (include "ledger.admission.statuses" .)) ($config.sync | default dict)) -}}
{{- end -}}
{{- $_ := set $config "redis" (merge (include "ledger.redis.settings" . | fromYaml) ($config.redis | default dict)) -}}
{{- if .Values.caBundle.existingConfigMap -}}
{{- $_ := set $config "egress" (merge (dict "caBundle" "/etc/notification/ca/ca.crt") ($config.egress | default dict)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The settings that are read at the start only; the switch `paused` is followed in the file. */}}
{{- define "ledger.settings.fixed" -}}
{{- $config := include "ledger.settings" . | fromYaml -}}
{{- $_ := unset $config.delivery "paused" -}}
{{- toYaml $config -}}
{{- end -}}

{{/* The explorer's settings: the same, with a user of Redis that only reads. */}}
{{- define "ledger.explorer.settings" -}}
{{- $config := include "ledger.settings" . | fromYaml -}}
{{- $secret := .Values.explorer.redis.existingSecret -}}
{{- if $secret.name -}}
{{- $url := "/etc/notification/explorer-redis/url" -}}
{{- $_ := set $config "redis" (merge (dict "urlFile" $url) (omit $config.redis "url" "passwordFile" "sentinelPasswordFile")) -}}
{{- else if eq .Values.redis.mode "embedded" -}}
{{- $_ := set $config.redis "url" (printf "redis://explorer@%s:6379/0" (include "ledger.redis.name" .)) -}}
{{- end -}}
{{- toYaml $config -}}
{{- end -}}

{{- define "ledger.redis.settings" -}}
{{- $dir := "/etc/notification/redis" -}}
{{- if eq .Values.redis.mode "embedded" -}}
url: {{ printf "redis://ledger@%s:6379/0" (include "ledger.redis.name" .) }}
passwordFile: {{ $dir }}/password
# Its user may not run CONFIG GET.
appendfsync: {{ .Values.redis.embedded.appendfsync }}
{{- else -}}
{{- $redis := .Values.redis.external -}}
{{- $secret := $redis.existingSecret -}}
{{- if $secret.urlKey -}}
urlFile: {{ $dir }}/url
{{- else -}}
url: {{ include "ledger.redis.url" . | quote }}
{{- if $secret.passwordKey }}
passwordFile: {{ $dir }}/password
{{- end }}
{{- if $secret.sentinelPasswordKey }}
sentinelPasswordFile: {{ $dir }}/sentinel-password
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "ledger.redis.url" -}}
{{- $redis := .Values.redis.external -}}
{{- $dir := "/etc/notification/redis" -}}
{{- $tls := $redis.tls -}}
{{- $scheme := ternary "rediss" "redis" $tls.enabled -}}
{{- if ne $redis.topology "standalone" -}}{{- $scheme = printf "%s+%s" $scheme $redis.topology -}}{{- end -}}
{{- $user := "" -}}
{{- with $redis.username -}}{{- $user = printf "%s@" (urlquery . | replace "+" "%20") -}}{{- end -}}
{{- $path := printf "/%d" (int $redis.database) -}}
{{- if eq $redis.topology "sentinel" -}}
{{- $path = printf "/%s%s" (urlquery $redis.service | replace "+" "%20") $path -}}
{{- end -}}
{{- $options := list -}}
{{- with $redis.sentinelUsername -}}{{- $options = append $options (printf "sentinel_username=%s" (urlquery .)) -}}{{- end -}}
{{- if $tls.enabled -}}
{{- if $tls.existingSecret -}}{{- $options = append $options (printf "ssl_ca_certs=%s/ca.crt" $dir) -}}{{- end -}}
{{- if $tls.clientCertificate -}}
{{- $options = concat $options (list (printf "ssl_certfile=%s/tls.crt" $dir) (printf "ssl_keyfile=%s/tls.key" $dir)) -}}
{{- end -}}
{{- $options = append $options (printf "ssl_check_hostname=%s" (ternary "true" "false" $tls.checkHostname)) -}}
{{- end -}}
{{- printf "%s://%s%s%s" $scheme $user (join "," $redis.hosts) $path -}}
{{- if $options -}}?{{ join "&" $options }}{{- end -}}
{{- end -}}

{{/* Sources of the projected volume with Redis's secrets, as a YAML list; empty if there are none. */}}
{{- define "ledger.redis.secrets" -}}
{{- $items := list -}}
{{- if eq .Values.redis.mode "embedded" -}}
- secret:
    name: {{ include "ledger.redis.secret" . }}
    items:
      - key: {{ .Values.redis.embedded.existingSecret.passwordKey }}
        path: password
{{- else -}}
{{- $secret := .Values.redis.external.existingSecret -}}
{{- if $secret.name }}
- secret:
    name: {{ $secret.name }}
    items:
      {{- with $secret.urlKey }}
      - key: {{ . }}
        path: url
      {{- end }}
      {{- with $secret.passwordKey }}
      - key: {{ . }}
        path: password
      {{- end }}
      {{- with $secret.sentinelPasswordKey }}
      - key: {{ . }}
        path: sentinel-password
      {{- end }}
{{- end -}}
{{- with include "ledger.redis.certificates" . }}
{{ . }}
{{- end }}
{{- end -}}
{{- end -}}

{{/* Of these, what is not a password. */}}
{{- define "ledger.redis.certificates" -}}
{{- $tls := .Values.redis.external.tls -}}
{{- if and (eq .Values.redis.mode "external") $tls.existingSecret -}}
- secret:
    name: {{ $tls.existingSecret }}
    items:
      - key: ca.crt
        path: ca.crt
      {{- if $tls.clientCertificate }}
      - key: tls.crt
        path: tls.crt
      - key: tls.key
        path: tls.key
      {{- end }}
{{- end -}}
{{- end -}}

{{/* Name of the ConfigMap with the routing file, and the file if the chart makes it. */}}
{{- define "ledger.routing.name" -}}
{{- default (include "ledger.component" (list . "routing")) .Values.routing.existingConfigMap -}}
{{- end -}}

{{- define "ledger.routing" -}}
{{- if kindIs "map" .Values.routing.content -}}
{{- toYaml .Values.routing.content -}}
{{- else if .Values.routing.content -}}
{{- .Values.routing.content -}}
{{- else if .Values.slack.secretName -}}
route:
  receiver: slack-and-console
receivers:
  - name: slack-and-console
    slackConfigs:
      - channel: {{ .Values.slack.channel | quote }}
        credentialRef: slack-webhook
    consoleConfigs:
      - enabled: true
{{- else -}}
route:
  receiver: default-console
receivers:
  - name: default-console
    consoleConfigs:
      - enabled: true
{{- end -}}
{{- end -}}

{{/* Sources of the projected volume with credentials, as a YAML list; empty if there are none. */}}
{{- define "ledger.credentials" -}}
{{- range .Values.credentials }}
- secret:
    name: {{ .secretName }}
    optional: {{ dig "optional" true . }}
    {{- if .name }}
    items:
      - key: {{ .secretKey }}
        path: {{ .name }}
    {{- end }}
{{- end -}}
{{- if and .Values.slack.secretName (not .Values.routing.content) (not .Values.routing.existingConfigMap) }}
- secret:
    name: {{ .Values.slack.secretName }}
    optional: true
    items:
      - key: {{ .Values.slack.secretKey }}
        path: slack-webhook
{{- end -}}
{{- if .Values.inlineCredentials }}
- secret:
    name: {{ include "ledger.component" (list . "credentials") }}
    optional: true
{{- end -}}
{{- end -}}
