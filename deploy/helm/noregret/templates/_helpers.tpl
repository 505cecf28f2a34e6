{{- define "noregret.fullname" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- /* Labels that select. `.root` is the chart's scope, `.component` one of its parts, here and below. */}}
{{- define "noregret.selector" -}}
app.kubernetes.io/name: {{ .root.Chart.Name }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "noregret.labels" -}}
{{ include "noregret.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "noregret.secretName" -}}
{{ .Values.existingSecret | default (printf "%s-secret" (include "noregret.fullname" .)) }}
{{- end }}

{{- define "noregret.proxies" -}}
{{- if kindIs "invalid" .Values.config.proxies }}{{ ternary 2 1 .Values.ingress.enabled }}{{ else }}{{ .Values.config.proxies | int }}{{ end }}
{{- end }}

{{- /* The names that it answers to: those of the values, and the proxy's inside of the cluster. */}}
{{- define "noregret.hosts" -}}
{{- $name := include "noregret.fullname" . }}
{{- $inside := list $name (printf "%s.%s" $name .Release.Namespace) (printf "%s.%s.svc" $name .Release.Namespace) }}
{{- join "," (concat .Values.config.allowedHosts $inside) }}
{{- end }}

{{- /* The settings. Not in a ConfigMap: migrations run before one would be there. */}}
{{- define "noregret.env" -}}
{{- $secret := include "noregret.secretName" .root }}
{{- with .root.Values }}
- {name: DATABASE_URL, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .secretKeys.databaseUrl }}}}}
- {name: REDIS_URL, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .secretKeys.redisUrl }}}}}
{{- with .secretKeys.brokerUrl }}
- {name: NOREGRET_BROKER_URL, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ . }}}}}
{{- end }}
{{- with .secretKeys.replicaUrl }}
- {name: NOREGRET_REPLICA_URL, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ . }}}}}
{{- end }}
- {name: NOREGRET_SECRET_KEY, valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ .secretKeys.secretKey }}}}}
- {name: NOREGRET_ROLE, value: {{ $.role }}}
- {name: NOREGRET_ALLOWED_HOSTS, value: {{ include "noregret.hosts" $.root | quote }}}
- {name: NOREGRET_TRUSTED_ORIGINS, value: {{ join "," .config.trustedOrigins | quote }}}
- {name: NOREGRET_HTTPS, value: {{ ternary "1" "0" .config.https | quote }}}
- {name: NOREGRET_PROXIES, value: {{ include "noregret.proxies" $.root | quote }}}
- {name: NOREGRET_LOG_LEVEL, value: {{ .config.logLevel }}}
{{- if .artifacts.storage }}
- {name: NOREGRET_ARTIFACT_STORAGE, value: {{ toJson .artifacts.storage | quote }}}
{{- end }}
{{- range $name, $value := .config.extra }}
- {name: {{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- end }}

{{- /* A pod of the image. `.role` is NOREGRET_ROLE; `.command` a list; `.env` and `.container` what it has beside. */}}
{{- define "noregret.pod" -}}
{{- $values := .root.Values }}
{{- with $values.imagePullSecrets }}
imagePullSecrets: {{ toJson . }}
{{- end }}
{{- with $values.serviceAccountName }}
serviceAccountName: {{ . }}
{{- end }}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 10001
  runAsGroup: 10001
  fsGroup: 10001
  seccompProfile: {type: RuntimeDefault}
{{- include "noregret.placement" . }}
containers:
  - name: {{ .component }}
    image: "{{ $values.image.repository }}:{{ $values.image.tag | default .root.Chart.AppVersion }}"
    imagePullPolicy: {{ $values.image.pullPolicy }}
    command: {{ toJson .command }}
    env:
      {{- include "noregret.env" . | nindent 6 }}
      {{- with .env }}{{ . | nindent 6 }}{{ end }}
    resources: {{ toJson .resources }}
    securityContext: {{ include "noregret.containerSecurity" . }}
    volumeMounts:
      - {name: data, mountPath: /data}
      - {name: tmp, mountPath: /tmp}
      {{- if $values.artifacts.existingClaim }}
      - {name: artifacts, mountPath: /data/artifacts}
      {{- end }}
      {{- if eq .role "web" }}
      - {name: metrics, mountPath: /run/noregret-metrics}
      {{- end }}
    {{- with .container }}{{ . | nindent 4 }}{{ end }}
volumes:
  # Snapshots, decisions that Redis does not take at the moment, and copies of artefacts: they live as long as the pod.
  - {name: data, emptyDir: {}}
  - {name: tmp, emptyDir: {}}
  {{- if $values.artifacts.existingClaim }}
  - {name: artifacts, persistentVolumeClaim: {claimName: {{ $values.artifacts.existingClaim }}}}
  {{- end }}
  {{- if eq .role "web" }}
  - {name: metrics, emptyDir: {medium: Memory, sizeLimit: 64Mi}}
  {{- end }}
{{- end }}

{{- define "noregret.containerSecurity" -}}
{allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
{{- end }}

{{- /* Where pods go: over nodes as far as there are some, and as the values say. */}}
{{- define "noregret.placement" }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "noregret.selector" . | nindent 8 }}
{{- with .root.Values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with .root.Values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- with .root.Values.affinity }}
affinity: {{ toJson . }}
{{- end }}
{{- end }}

{{- /* Of both planes. What loads models takes requests when they are there, twenty seconds at most; a process that lives is left alone. */}}
{{- define "noregret.probes" -}}
ports:
  - {name: http, containerPort: 8000}
startupProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 2, timeoutSeconds: 2, failureThreshold: 60}
livenessProbe: {httpGet: {path: /healthz, port: http}, periodSeconds: 10, timeoutSeconds: 5, failureThreshold: 3}
readinessProbe: {httpGet: {path: /readyz, port: http}, periodSeconds: 5, timeoutSeconds: 5, failureThreshold: 2}
# Requests still come until every proxy has heard that the pod ends.
lifecycle: {preStop: {exec: {command: [sleep, "5"]}}}
{{- end }}

{{- /* `.port` of the pods behind a name inside of the cluster. */}}
{{- define "noregret.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "noregret.fullname" .root }}-{{ .component }}
  labels: {{- include "noregret.labels" . | nindent 4 }}
spec:
  selector: {{- include "noregret.selector" . | nindent 4 }}
  ports:
    - {name: http, port: 8000, targetPort: http}
{{- end }}
