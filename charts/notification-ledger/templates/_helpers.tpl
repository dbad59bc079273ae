{{/*
Names, labels and the parts that several templates share. Names are at most 63 characters, suffix
included: the suffix stays, what is before it is cut.
*/}}

{{- define "ledger.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "ledger.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" -}}
{{- else if contains (include "ledger.name" .) .Release.Name -}}
{{- .Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "ledger.name" .) | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{/* The full name with a suffix: (list $ "redis"). A third item is the greatest length, default 63. */}}
{{- define "ledger.component" -}}
{{- $root := index . 0 -}}
{{- $suffix := index . 1 -}}
{{- $length := 63 -}}
{{- if gt (len .) 2 -}}{{- $length = index . 2 -}}{{- end -}}
{{- $rest := int (sub $length (add (len $suffix) 1)) -}}
{{- printf "%s-%s" (include "ledger.fullname" $root | trunc $rest | trimSuffix "-") $suffix -}}
{{- end -}}

{{/* Name of an object without a namespace: two releases of one name may live side by side. */}}
{{- define "ledger.clusterwide" -}}
{{- $root := index . 0 -}}
{{- $suffix := index . 1 -}}
{{- $hash := printf "%s/%s" $root.Release.Namespace (include "ledger.fullname" $root) | sha256sum | trunc 8 -}}
{{- include "ledger.component" (list $root (printf "%s-%s" $hash $suffix)) -}}
{{- end -}}

{{/* Name of the policy on statuses, and of its binding. */}}
{{- define "ledger.admission.statuses" -}}
{{- include "ledger.clusterwide" (list . "statuses") -}}
{{- end -}}

{{- define "ledger.redis.name" -}}
{{- /* A StatefulSet's pods carry a hash of up to 11 characters behind its name in a label. */ -}}
{{- include "ledger.component" (list . "redis" 52) -}}
{{- end -}}

{{- define "ledger.lease" -}}
{{- default (include "ledger.fullname" .) .Values.leaseName | trunc 58 | trimSuffix "-" -}}
{{- end -}}

{{- define "ledger.serviceAccount" -}}
{{- if .Values.kubernaut.enabled -}}
notification-controller
{{- else if .Values.serviceAccount.create -}}
{{- default (include "ledger.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Labels of an object: (list $ "controller"). */}}
{{- define "ledger.labels" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.commonLabels }}{{ toYaml . }}{{ "\n" }}{{ end -}}
helm.sh/chart: {{ printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "ledger.selector" . }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/part-of: notification-ledger
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
{{- end -}}

{{- define "ledger.selector" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: {{ include "ledger.name" $root }}
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end -}}

{{/* Labels of a pod: none that changes with the version, or each upgrade would restart Redis. */}}
{{- define "ledger.podLabels" -}}
{{- $root := index . 0 -}}
{{- with $root.Values.commonLabels }}{{ toYaml . }}{{ "\n" }}{{ end -}}
{{ include "ledger.selector" . }}
app.kubernetes.io/part-of: notification-ledger
{{- end -}}

{{/* An image reference: (dict "image" .Values.image "tag" default). A digest wins over a tag. */}}
{{- define "ledger.image" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" .image.repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" .image.repository (default .tag .image.tag) -}}
{{- end -}}
{{- end -}}

{{/* Namespaces that are watched, as a JSON list; empty for all. */}}
{{- define "ledger.namespaces" -}}
{{- if .Values.watch.all -}}[]
{{- else -}}{{- default (list .Release.Namespace) .Values.watch.namespaces | uniq | toJson -}}
{{- end -}}
{{- end -}}

{{/* Whether notifications of more than one namespace are delivered. */}}
{{- define "ledger.shared" -}}
{{- if or .Values.watch.all (gt (include "ledger.namespaces" . | fromJsonArray | len) 1) -}}true{{- end -}}
{{- end -}}

{{/* Whether whoever may edit a namespace may create notifications in it. */}}
{{- define "ledger.rbac.aggregate" -}}
{{- if eq (toString .Values.rbac.aggregate) "auto" -}}
{{- if not (include "ledger.shared" .) -}}true{{- end -}}
{{- else if .Values.rbac.aggregate -}}true{{- end -}}
{{- end -}}

{{/* A block of addresses, without the metadata services where it is all of them; see channels/egress.py. */}}
{{- define "ledger.block" -}}
{{- $never := dict
  "0.0.0.0/0" (list "169.254.0.0/16" "100.100.100.200/32" "168.63.129.16/32" "192.0.0.192/32")
  "::/0" (list "fe80::/10" "fd00:ec2::254/128" "fd20:ce::254/128") -}}
{{- $block := deepCopy . -}}
{{- with get $never .cidr -}}
{{- $_ := set $block "except" (concat ($block.except | default list) . | uniq) -}}
{{- end -}}
{{- toYaml $block -}}
{{- end -}}

{{/* Egress of every pod: DNS and the API server. */}}
{{- define "ledger.egress.apiServer" -}}
- ports:
    - port: 53
      protocol: UDP
    - port: 53
      protocol: TCP
# The API server has no label and often no fixed address.
- ports:
    {{- range .Values.networkPolicy.apiServerPorts }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .Values.networkPolicy.apiServerCIDRs }}
  to:
    {{- range . }}
    - ipBlock:
        {{- include "ledger.block" (dict "cidr" .) | nindent 8 }}
    {{- end }}
  {{- end }}
{{- end -}}

{{/* Egress of a pod that works with logs and objects: DNS, the API server, Redis. */}}
{{- define "ledger.egress.own" -}}
{{- include "ledger.egress.apiServer" . }}
{{- if eq .Values.redis.mode "embedded" }}
- ports:
    - port: 6379
      protocol: TCP
  to:
    - podSelector:
        matchLabels:
          {{- include "ledger.selector" (list . "redis") | nindent 10 }}
{{- else }}
{{- $ports := list }}
{{- range .Values.redis.external.hosts }}
{{- $port := regexFind ":[0-9]+$" . | trimPrefix ":" }}
{{- $ports = append $ports (default (ternary "26379" "6379" (eq $.Values.redis.external.topology "sentinel")) $port | int) }}
{{- end }}
{{- if or (eq .Values.redis.external.topology "sentinel") (not $ports) }}
{{- $ports = append $ports 6379 }}
{{- end }}
- ports:
    {{- range uniq $ports }}
    - port: {{ . }}
      protocol: TCP
    {{- end }}
  {{- with .Values.networkPolicy.redisTo }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
{{- end -}}

{{/* The account of the explorer; where the chart makes none, it is the controller's. */}}
{{- define "ledger.explorer.account" -}}
{{- if .Values.serviceAccount.create -}}
{{- include "ledger.component" (list . "explorer") -}}
{{- else -}}
{{- .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Rights of the explorer on notifications. */}}
{{- define "ledger.rbac.explored" -}}
- apiGroups: [kubernaut.ai]
  resources: [notificationrequests]
  verbs: [get, list, watch]
{{- end -}}

{{/* The settings of the audit store; beside Kubernaut it is Kubernaut's. */}}
{{- define "ledger.datastorage" -}}
{{- $store := dig "datastorage" dict .Values.config | default dict | deepCopy -}}
{{- if .Values.kubernaut.enabled -}}
{{- $url := printf "https://data-storage-service.%s.svc.cluster.local:8080" .Release.Namespace -}}
{{- $store = merge $store (dict "url" $url) -}}
{{- end -}}
{{- toYaml $store -}}
{{- end -}}

{{/* Where the token for the audit store is mounted; empty if it is the pod's own, or none. */}}
{{- define "ledger.auditToken" -}}
{{- $store := include "ledger.datastorage" . | fromYaml -}}
{{- if and .Values.auditToken.audience (hasPrefix "https://" ($store.url | default "" | lower)) (not $store.tokenFile) -}}
/etc/notification/audit-token
{{- end -}}
{{- end -}}

{{- define "ledger.rbac.cluster" -}}
{{- if or (eq .Values.rbac.scope "cluster") (and (eq .Values.rbac.scope "auto") .Values.watch.all) -}}true{{- end -}}
{{- end -}}

{{/* Rights on notifications, in the namespaces that are watched. */}}
{{- define "ledger.rbac.watched" -}}
- apiGroups: [kubernaut.ai]
  resources: [notificationrequests]
  verbs: [get, list, watch{{ if dig "retention" "deleteObjects" false .Values.config }}, delete{{ end }}]
- apiGroups: [kubernaut.ai]
  resources: [notificationrequests/status]
  # The last two are asked for by the policy on statuses alone.
  verbs: [patch, record, correct]
{{- if dig "events" "enabled" true .Values.config }}
- apiGroups: [""]
  resources: [events]
  verbs: [create]
{{- end }}
{{- end -}}

{{/*
Seconds of a duration as the settings take it, rounded up: Go's form (1m30s) or a number. The schema
has refused every other form. Parts below a millisecond count nothing.
*/}}
{{- define "ledger.seconds" -}}
{{- $text := toString . -}}
{{- $sum := 0.0 -}}
{{- if regexMatch "^[0-9.]+$" $text -}}
{{- $sum = float64 $text -}}
{{- else -}}
{{- $factor := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 -}}
{{- range regexFindAll "[0-9.]+[a-zµμ]+" $text -1 -}}
{{- $unit := regexFind "[a-zµμ]+$" . -}}
{{- $number := trimSuffix $unit . -}}
{{- $sum = addf $sum (mulf (float64 $number) (get $factor $unit | default 0.0)) -}}
{{- end -}}
{{- end -}}
{{- ceil $sum | int -}}
{{- end -}}

{{/*
What a drain may take, in seconds: the longest send and 2 s, 5 s to record, 8 s to publish, 3 s for the
audit feed, 4 s for the Leases, and 3 s for the process itself. tests/chart compares it with the code.
*/}}
{{- define "ledger.drain" -}}
{{- $delivery := .Values.config.delivery | default dict -}}
{{- $longest := include "ledger.seconds" (dig "slack" "timeout" "10s" $delivery) | int -}}
{{- if dig "file" "outputDir" "" $delivery -}}
{{- $longest = max $longest (include "ledger.seconds" (dig "file" "timeout" "5s" $delivery) | int) -}}
{{- end -}}
{{- if dig "email" "enabled" false $delivery -}}
{{- $longest = max $longest 10 -}}
{{- end -}}
{{- add $longest 25 -}}
{{- end -}}

{{- define "ledger.grace" -}}
{{- default (include "ledger.drain" . | int) (int .Values.terminationGracePeriodSeconds) -}}
{{- end -}}

{{- define "ledger.replicated" -}}
{{- if gt (int .Values.replicas) 1 -}}true{{- end -}}
{{- end -}}

{{/* Whether the cluster knows a kind, by the mode: (list $ mode "apiVersion" "Kind"). */}}
{{- define "ledger.render" -}}
{{- $root := index . 0 -}}
{{- $mode := index . 1 -}}
{{- $what := printf "%s/%s" (index . 2) (index . 3) -}}
{{- if or (eq $mode "alwaysRender") ($root.Capabilities.APIVersions.Has $what) -}}
true
{{- else if eq $mode "failIfMissing" -}}
{{- fail (printf "The cluster does not know %s. Install Prometheus's operator first, or set renderMode to skipIfMissing, or to alwaysRender where Helm cannot ask the cluster (helm template, GitOps)." $what) -}}
{{- end -}}
{{- end -}}

{{/* Probes of a container with a port `health`. */}}
{{- define "ledger.probes" -}}
startupProbe:
  httpGet:
    path: /healthz
    port: health
  {{- toYaml .Values.probes.startup | nindent 2 }}
livenessProbe:
  httpGet:
    path: /healthz
    port: health
  {{- toYaml .Values.probes.liveness | nindent 2 }}
readinessProbe:
  httpGet:
    path: /readyz
    port: health
  {{- toYaml .Values.probes.readiness | nindent 2 }}
{{- end -}}

{{/* Where the pods of a component run: (list $ "controller"). */}}
{{- define "ledger.scheduling" -}}
{{- $root := index . 0 -}}
{{- $selector := dict "labelSelector" (dict "matchLabels" (include "ledger.selector" . | fromYaml)) -}}
{{- with $root.Values.topologySpreadConstraints }}
topologySpreadConstraints:
  {{- range . }}
  - {{- merge (deepCopy .) $selector | toYaml | nindent 4 }}
  {{- end }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* How the processes of a pod of this product run. */}}
{{- define "ledger.podSecurity" -}}
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.podSecurityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* What Prometheus scrapes of a component: (list $ "controller" name), and labels that its Service has besides. */}}
{{- define "ledger.monitor" -}}
{{- $root := index . 0 -}}
{{- $monitor := $root.Values.metrics.monitor -}}
{{- if and $monitor.enabled (include "ledger.render" (list $root $monitor.renderMode "monitoring.coreos.com/v1" $monitor.kind)) }}
{{- $endpoint := merge (deepCopy $monitor.endpoint) (dict "port" "metrics" "interval" $monitor.interval "scrapeTimeout" $monitor.scrapeTimeout) }}
apiVersion: monitoring.coreos.com/v1
kind: {{ $monitor.kind }}
metadata:
  name: {{ index . 2 }}
  namespace: {{ $root.Release.Namespace }}
  labels:
    {{- include "ledger.labels" . | nindent 4 }}
    {{- with $monitor.labels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  selector:
    matchLabels:
      {{- include "ledger.selector" . | nindent 6 }}
      {{- if and (eq $monitor.kind "ServiceMonitor") (gt (len .) 3) }}
      {{- toYaml (index . 3) | nindent 6 }}
      {{- end }}
  namespaceSelector:
    matchNames:
      - {{ $root.Release.Namespace }}
  {{ ternary "podMetricsEndpoints" "endpoints" (eq $monitor.kind "PodMonitor") }}:
    - {{- toYaml $endpoint | nindent 6 }}
{{- end }}
{{- end -}}
