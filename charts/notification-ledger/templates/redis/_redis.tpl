{{- define "ledger.redis.conf" -}}
{{- $redis := .Values.redis.embedded -}}
# The record of every attempt is here: on disk, and nothing is ever evicted.
port 6379
bind * -::*
# Who may connect is the business of the password, or of the NetworkPolicy.
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
{{- if $redis.existingSecret.name }}
aclfile /run/redis/users.acl
{{- end }}
{{- with $redis.extraConfig }}
{{ . }}
{{- end }}
{{- end -}}

{{- define "ledger.redis.start" -}}
# Starts the server of whichever image this is.
set -eu
server="$(command -v valkey-server || command -v redis-server)"
{{- if .Values.redis.embedded.existingSecret.name }}
# The password's hash, so that neither a command line nor a quoting rule ever sees the password.
hash="$(printf %s "$(cat /etc/redis-auth/password)" | sha256sum | cut -c 1-64)"
umask 077
echo "user default on #$hash ~* &* +@all" > /run/redis/users.acl
{{- end }}
exec "$server" /etc/redis/redis.conf
{{- end -}}
