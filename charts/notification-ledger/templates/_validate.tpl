{{/*
Values that contradict each other end here, with a sentence that says what to change. The schema has
checked each value by itself; only what takes two of them to judge is here.
*/}}
{{- define "ledger.validate" -}}
{{- $v := .Values -}}
{{- $config := $v.config -}}
{{- $gateway := $v.gateway.config | default dict -}}
{{- $faults := list -}}

{{- if and $v.watch.all $v.watch.namespaces -}}
{{- $faults = append $faults "watch.all and watch.namespaces cannot be combined" -}}
{{- end -}}
{{- if and $v.watch.all (eq $v.rbac.scope "namespaced") -}}
{{- $faults = append $faults "watch.all needs rbac.scope auto or cluster: a Role applies to one namespace only" -}}
{{- end -}}
{{- if and (not $v.serviceAccount.create) (not $v.serviceAccount.name) -}}
{{- $faults = append $faults "serviceAccount.create is off, so serviceAccount.name must name the account" -}}
{{- end -}}

{{- if and $v.kubernaut.enabled $v.serviceAccount.name -}}
{{- $faults = append $faults "kubernaut.enabled uses Kubernaut's account notification-controller, so serviceAccount.name must stay empty" -}}
{{- end -}}
{{- if and $v.kubernaut.enabled (kindIs "bool" (dig "retention" "deleteObjects" false $config)) (dig "retention" "deleteObjects" false $config) -}}
{{- $faults = append $faults "config.retention.deleteObjects is true beside Kubernaut, whose webhook records each deletion as a cancellation by the controller: set it to false, or to asCancelled if that is wanted" -}}
{{- end -}}

{{- if and $v.gateway.enabled (not (dig "sources" list $gateway)) -}}
{{- $faults = append $faults "gateway.enabled needs gateway.config.sources, an entry for each program that sends" -}}
{{- end -}}
{{- if and (dig "ingress" "enabled" false $v.gateway) (not (dig "ingress" "host" "" $v.gateway)) -}}
{{- $faults = append $faults "gateway.ingress.enabled needs gateway.ingress.host, at which senders reach it" -}}
{{- end -}}
{{- with $v.gateway.autoscaling -}}
{{- if and .enabled (gt (int .minReplicas) (int .maxReplicas)) -}}
{{- $faults = append $faults "gateway.autoscaling.minReplicas must be at most maxReplicas" -}}
{{- end -}}
{{- if and .enabled (not (dig "requests" "cpu" "" ($v.gateway.resources | default dict))) -}}
{{- $faults = append $faults "gateway.autoscaling needs gateway.resources.requests.cpu, which its target refers to" -}}
{{- end -}}
{{- end -}}
{{- range $key := list "listen" "healthProbeAddr" "metricsAddr" "leases" -}}
{{- if hasKey $gateway $key -}}
{{- $faults = append $faults (printf "gateway.config.%s is the chart's to set" $key) -}}
{{- end -}}
{{- end -}}
{{- if and $v.routing.existingConfigMap $v.routing.content -}}
{{- $faults = append $faults "routing.existingConfigMap and routing.content cannot be combined" -}}
{{- end -}}
{{- if and $v.slack.secretName (or $v.routing.existingConfigMap $v.routing.content) -}}
{{- $faults = append $faults "slack.secretName has no effect together with routing: list it in credentials and name it in the routing file" -}}
{{- end -}}
{{- $names := keys ($v.inlineCredentials | default dict) -}}
{{- range $v.credentials -}}{{- with .name -}}{{- $names = append $names . -}}{{- end -}}{{- end -}}
{{- if $v.slack.secretName -}}{{- $names = append $names "slack-webhook" -}}{{- end -}}
{{- if ne (len $names) (len (uniq $names)) -}}
{{- $faults = append $faults "credentials: a name is given twice (inlineCredentials and slack count too)" -}}
{{- end -}}

{{- if eq $v.redis.mode "external" -}}
{{- $redis := $v.redis.external -}}
{{- $secret := $redis.existingSecret -}}
{{- if and $secret.urlKey $redis.hosts -}}
{{- $faults = append $faults "redis.external.hosts and redis.external.existingSecret.urlKey cannot be combined" -}}
{{- else if and (not $secret.urlKey) (not $redis.hosts) -}}
{{- $faults = append $faults "redis.mode external needs redis.external.hosts, or redis.external.existingSecret.urlKey" -}}
{{- end -}}
{{- if and $secret.urlKey (or $secret.passwordKey $secret.sentinelPasswordKey $redis.username) -}}
{{- $faults = append $faults "redis.external.existingSecret.urlKey names a whole URL, with user and passwords: leave username, passwordKey and sentinelPasswordKey empty" -}}
{{- end -}}
{{- if and (or $secret.urlKey $secret.passwordKey $secret.sentinelPasswordKey) (not $secret.name) -}}
{{- $faults = append $faults "redis.external.existingSecret has a key but no name" -}}
{{- end -}}
{{- if and $secret.name (not (or $secret.urlKey $secret.passwordKey $secret.sentinelPasswordKey)) -}}
{{- $faults = append $faults "redis.external.existingSecret has a name but no key" -}}
{{- end -}}
{{- if and (eq $redis.topology "standalone") (gt (len $redis.hosts) 1) -}}
{{- $faults = append $faults "redis.external.topology standalone takes one host; for several, set sentinel or cluster" -}}
{{- end -}}
{{- if and (eq $redis.topology "sentinel") (not $redis.service) (not $secret.urlKey) -}}
{{- $faults = append $faults "redis.external.topology sentinel needs redis.external.service, the name of the master" -}}
{{- end -}}
{{- if and (ne $redis.topology "sentinel") (or $redis.service $redis.sentinelUsername $secret.sentinelPasswordKey) -}}
{{- $faults = append $faults "redis.external: service, sentinelUsername and sentinelPasswordKey belong to topology sentinel" -}}
{{- end -}}
{{- if and (eq $redis.topology "cluster") (ne (int $redis.database) 0) -}}
{{- $faults = append $faults "redis.external.database must be 0 for topology cluster" -}}
{{- end -}}
{{- if and $redis.tls.clientCertificate (not $redis.tls.existingSecret) -}}
{{- $faults = append $faults "redis.external.tls.clientCertificate needs redis.external.tls.existingSecret, which holds it" -}}
{{- end -}}
{{- if and (not $redis.tls.enabled) (or $redis.tls.existingSecret $redis.tls.clientCertificate) (not $secret.urlKey) -}}
{{- $faults = append $faults "redis.external.tls is configured but not enabled" -}}
{{- end -}}
{{- else -}}
{{- $redis := $v.redis.embedded -}}
{{- if and (not $redis.existingSecret.name) (not $v.rbac.create) -}}
{{- $faults = append $faults "rbac.create is off, so nothing may make the password of redis.embedded: set redis.embedded.existingSecret.name" -}}
{{- end -}}
{{- if regexMatch "(?im)^\\s*(user|aclfile)\\s" ($redis.extraConfig | default "") -}}
{{- $faults = append $faults "redis.embedded.extraConfig names a user or a file of users, with which Redis does not start, because the chart sets its own: use redis.embedded.extraUsers" -}}
{{- end -}}
{{- if eq (dig "redis" "durability" "relaxed" $config) "strict" -}}
{{- if or (ne $redis.appendfsync "always") (not $redis.persistence.enabled) -}}
{{- $faults = append $faults "config.redis.durability strict needs redis.embedded.appendfsync always and redis.embedded.persistence.enabled" -}}
{{- end -}}
{{- end -}}
{{- if or $v.redis.external.hosts $v.redis.external.existingSecret.name -}}
{{- $faults = append $faults "redis.external is configured, but redis.mode is embedded" -}}
{{- end -}}
{{- end -}}

{{- if and (ne (toString $v.podDisruptionBudget.minAvailable) "") (ne (toString $v.podDisruptionBudget.maxUnavailable) "") -}}
{{- $faults = append $faults "podDisruptionBudget.minAvailable and maxUnavailable cannot be combined" -}}
{{- end -}}
{{- $grace := int $v.terminationGracePeriodSeconds -}}
{{- $drain := include "ledger.drain" . | int -}}
{{- if and $grace (lt $grace $drain) -}}
{{- $faults = append $faults (printf "terminationGracePeriodSeconds is %d, but with the timeouts in config a drain may take %d s" $grace $drain) -}}
{{- end -}}
{{- if and (dig "audit" "file" "" $config) (hasKey $v.volumes.audit "persistentVolumeClaim") (gt (int $v.replicas) 1) -}}
{{- $faults = append $faults "volumes.audit is one claim for several replicas, which must not share config.audit.file" -}}
{{- end -}}
{{- /* Each of these directories is a mount; two at one place are refused only half-way through an upgrade. */}}
{{- $mounts := list "/" "/tmp" "/etc" "/etc/notification" "/etc/notification/config" "/etc/notification/credentials" "/etc/notification/redis" "/etc/notification/ca" "/etc/notification-routing" -}}
{{- $directories := dict "config.delivery.file.outputDir" (dig "delivery" "file" "outputDir" "" $config) -}}
{{- with dig "audit" "file" "" $config -}}
{{- $_ := set $directories "config.audit.file" (dir .) -}}
{{- end -}}
{{- range $key, $directory := $directories -}}
{{- if $directory -}}
{{- $place := clean $directory -}}
{{- if not (isAbs $directory) -}}
{{- $faults = append $faults (printf "%s must be an absolute path: a volume is mounted there" $key) -}}
{{- else if has $place $mounts -}}
{{- $faults = append $faults (printf "%s needs a directory of its own: something else is mounted at %s" $key $place) -}}
{{- end -}}
{{- $mounts = append $mounts $place -}}
{{- end -}}
{{- end -}}
{{- if and $v.caBundle.existingConfigMap (dig "egress" "caBundle" "" $config) -}}
{{- $faults = append $faults "caBundle.existingConfigMap and config.egress.caBundle cannot be combined" -}}
{{- end -}}
{{- $own := list "KUBERNAUT_CONTROLLER_NAMESPACE" "ROUTING_CONFIG_PATH" -}}
{{- if or $v.caBundle.existingConfigMap $v.kubernaut.enabled -}}{{- $own = append $own "TLS_CA_FILE" -}}{{- end -}}
{{- range $v.extraEnv -}}
{{- if has .name $own -}}
{{- $faults = append $faults (printf "extraEnv sets %s, which the chart sets" .name) -}}
{{- end -}}
{{- $own = append $own .name -}}
{{- end -}}
{{- if and $v.helmTest.enabled $v.helmTest.notification.enabled $v.watch.namespaces (not (has .Release.Namespace $v.watch.namespaces)) -}}
{{- $faults = append $faults (printf "helmTest.notification sends in the release's namespace %s, which watch.namespaces does not list" .Release.Namespace) -}}
{{- end -}}
{{- if and $v.networkPolicy.enabled (not $v.networkPolicy.egress) -}}
{{- $policy := $v.networkPolicy -}}
{{- $everything := list "0.0.0.0/0" "::/0" -}}
{{- $some := false -}}
{{- if eq (len $policy.receivers) 0 -}}{{- $some = true -}}{{- end -}}
{{- range $policy.receivers -}}
{{- if or .except (not (has .cidr $everything)) -}}{{- $some = true -}}{{- end -}}
{{- end -}}
{{- $open := list -}}
{{- if not $policy.apiServerCIDRs -}}{{- $open = append $open "networkPolicy.apiServerCIDRs" -}}{{- end -}}
{{- if and (eq $v.redis.mode "external") (not $policy.redisTo) -}}{{- $open = append $open "networkPolicy.redisTo" -}}{{- end -}}
{{- if and (dig "datastorage" "url" "" $config) (not $policy.datastorageTo) (not $v.kubernaut.enabled) -}}{{- $open = append $open "networkPolicy.datastorageTo" -}}{{- end -}}
{{- if and $some $open -}}
{{- $faults = append $faults (printf "networkPolicy.receivers would restrict nothing, since other rules open their ports to every address: set %s" (join " and " $open)) -}}
{{- end -}}
{{- end -}}
{{- if and $v.networkPolicy.egress $v.networkPolicy.extraEgress -}}
{{- $faults = append $faults "networkPolicy.egress replaces every rule, so networkPolicy.extraEgress would have no effect" -}}
{{- end -}}

{{- if $faults -}}
{{- fail (printf "\n\nThese values cannot be used together:\n- %s\n" (join "\n- " $faults)) -}}
{{- end -}}
{{- end -}}
