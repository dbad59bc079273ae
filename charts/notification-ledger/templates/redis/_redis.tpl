{{- define "ledger.redis.conf" -}}
{{- $redis := .Values.redis.embedded -}}
# The record of every attempt is here: on disk, and nothing is ever evicted.
port 6379
bind * -::*
# Who may connect is the business of the users, and of the NetworkPolicy.
protected-mode no
dir /data
appendonly yes
appendfsync {{ $redis.appendfsync }}
no-appendfsync-on-rewrite no
aof-load-truncated yes
save ""
maxmemory {{ $redis.maxmemory }}
maxmemory-policy noeviction
tcp-keepalive 60
aclfile /run/redis/users.acl
{{- with $redis.extraConfig }}
{{ . }}
{{- end }}
{{- end -}}

{{/* Rights of the user `ledger`: those of docs/install.md, and no other. tests/chart compares them. */}}
{{- define "ledger.redis.rule" -}}
{{- $prefix := dig "redis" "keyPrefix" "nl" .Values.config -}}
~{{ $prefix }}:* &{{ $prefix }}:poke +ping +select +info +time +get +set +scan +lrange +lindex +llen +ttl +rpush +lset +expire +persist +del +evalsha +script|load +publish +subscribe +wait
{{- end -}}

{{/* Rights of the user `explorer`: those of docs/install.md; likewise. A script could block the server. */}}
{{- define "ledger.redis.readRule" -}}
{{- $prefix := dig "redis" "keyPrefix" "nl" .Values.config -}}
%R~{{ $prefix }}:* +ping +info +time +get +scan +lrange +lindex +llen +ttl
{{- end -}}

{{- define "ledger.redis.start" -}}
# Starts the server of whichever image this is.
set -eu
umask 077
server="$(command -v valkey-server || command -v redis-server)"
# Hashes, so that neither a command line nor a quoting rule ever sees a password. `admin` is for people
# who may run commands in this pod (admin.sh); its password is known nowhere else, and new at each start.
# Nobody can log in as `default`. It keeps its rights all the same: a server loads its append-only file in
# that name, and many versions drop a transaction, as a script writes it, that `default` may not run.
hash="$(printf %s "$(cat /etc/redis-auth/password)" | sha256sum | cut -c 1-64)"
head -c 32 /dev/urandom | sha256sum | cut -c 1-64 > /run/redis/admin
admin="$(printf %s "$(cat /run/redis/admin)" | sha256sum | cut -c 1-64)"
cat > /run/redis/users.acl <<END
user default reset off ~* &* +@all
user ledger reset on #$hash {{ include "ledger.redis.rule" . }}
{{- if .Values.explorer.enabled }}
user explorer reset on #$(printf %s "$(cat /etc/redis-auth/explorer)" | sha256sum | cut -c 1-64) {{ include "ledger.redis.readRule" . }}
{{- end }}
user admin reset on #$admin ~* &* +@all
END
{{- with .Values.redis.embedded.extraUsers }}
cat >> /run/redis/users.acl <<'END'
{{- range . }}
user {{ . }}
{{- end }}
END
{{- end }}
exec "$server" /etc/redis/redis.conf
{{- end -}}

{{/* The Secret with the passwords of `ledger` and of `explorer`. */}}
{{- define "ledger.redis.secret" -}}
{{- default (include "ledger.component" (list . "redis-auth")) .Values.redis.embedded.existingSecret.name -}}
{{- end -}}

{{/* Whether the chart has it made. */}}
{{- define "ledger.redis.generated" -}}
{{- if and (eq .Values.redis.mode "embedded") (not .Values.redis.embedded.existingSecret.name) -}}true{{- end -}}
{{- end -}}

{{/* Annotations of what makes it; the weight is its argument. */}}
{{- define "ledger.redis.hook" -}}
helm.sh/hook: pre-install,pre-upgrade
helm.sh/hook-weight: {{ . | quote }}
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
{{- end -}}
