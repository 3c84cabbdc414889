{{- define "labels" -}}
app.kubernetes.io/name: {{ .program }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- end }}

{{- define "monitoringLabels" -}}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- with .Values.monitoring.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- /* One of the two programs, from a dict of root, program, name, values and port. */ -}}
{{- define "program" -}}
{{- $root := .root }}
{{- $v := .values }}
{{- $config := mergeOverwrite (deepCopy $v.config) (dict "admin" (dict "listen" (printf ":%d" .port))) }}
apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .name }}
  labels: {{- include "labels" . | nindent 4 }}
data:
  config.yaml: |
    {{- toYaml $config | nindent 4 }}
---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ .name }}
  labels: {{- include "labels" . | nindent 4 }}
spec:
  replicas: {{ $v.replicas }}
  selector:
    matchLabels: {{- include "labels" . | nindent 6 }}
  strategy:
    rollingUpdate: { maxSurge: 1, maxUnavailable: 0 }
  template:
    metadata:
      labels: {{- include "labels" . | nindent 8 }}
      annotations:
        # A new configuration starts new pods.
        checksum/config: {{ toYaml $config | sha256sum }}
        {{- with $root.Values.podAnnotations }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
    spec:
      automountServiceAccountToken: false
      # The variables of a service called bridge would be read as keys of the configuration.
      enableServiceLinks: false
      terminationGracePeriodSeconds: {{ $v.terminationGracePeriodSeconds }}
      securityContext:
        runAsNonRoot: true
        runAsUser: 65532
        runAsGroup: 65532
        fsGroup: 65532
        seccompProfile: { type: RuntimeDefault }
      {{- with $root.Values.imagePullSecrets }}
      imagePullSecrets: {{- toYaml . | nindent 8 }}
      {{- end }}
      containers:
        - name: {{ .program }}
          image: {{ printf "%s:%s" $root.Values.image.repository ($root.Values.image.tag | default $root.Chart.AppVersion) | quote }}
          imagePullPolicy: {{ $root.Values.image.pullPolicy }}
          command: [/{{ .program }}]
          args: [run, --config, /etc/{{ .program }}/config.yaml]
          ports:
            - { name: admin, containerPort: {{ .port }} }
          startupProbe:
            httpGet: { path: /livez, port: admin }
            periodSeconds: 2
            failureThreshold: 30
          livenessProbe:
            httpGet: { path: /livez, port: admin }
            periodSeconds: 10
            timeoutSeconds: 5
            failureThreshold: 6
          readinessProbe:
            httpGet: { path: /readyz, port: admin }
            periodSeconds: 5
            timeoutSeconds: 5
          {{- with $v.resources }}
          resources: {{- toYaml . | nindent 12 }}
          {{- end }}
          securityContext:
            allowPrivilegeEscalation: false
            readOnlyRootFilesystem: true
            capabilities: { drop: [ALL] }
          volumeMounts:
            - { name: config, mountPath: /etc/{{ .program }}, readOnly: true }
            {{- range $name, $secret := $v.secrets }}
            - { name: secret-{{ $name }}, mountPath: /run/secrets/{{ $name }}, readOnly: true }
            {{- end }}
      volumes:
        - name: config
          configMap: { name: {{ .name }} }
        {{- range $name, $secret := $v.secrets }}
        - name: secret-{{ $name }}
          secret: { secretName: {{ $secret }}, defaultMode: 0440 }
        {{- end }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- include "labels" . | nindent 14 }}
      {{- with $root.Values.nodeSelector }}
      nodeSelector: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.tolerations }}
      tolerations: {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with $root.Values.affinity }}
      affinity: {{- toYaml . | nindent 8 }}
      {{- end }}
---
apiVersion: v1
kind: Service
metadata:
  name: {{ .name }}
  labels: {{- include "labels" . | nindent 4 }}
spec:
  # For metrics: each pod by itself, ready or not.
  clusterIP: None
  publishNotReadyAddresses: true
  selector: {{- include "labels" . | nindent 4 }}
  ports:
    - { name: admin, port: {{ .port }}, targetPort: admin }
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels: {{- include "labels" . | nindent 4 }}
spec:
  {{- toYaml $root.Values.podDisruptionBudget | nindent 2 }}
  selector:
    matchLabels: {{- include "labels" . | nindent 6 }}
{{- if $root.Values.networkPolicy.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .name }}
  labels: {{- include "labels" . | nindent 4 }}
spec:
  podSelector:
    matchLabels: {{- include "labels" . | nindent 6 }}
  policyTypes: [Ingress, Egress]
  ingress:
    - from: {{- toYaml $root.Values.networkPolicy.from | nindent 8 }}
      ports:
        - { protocol: TCP, port: admin }
  egress:
    - ports:
        - { protocol: UDP, port: 53 }
        - { protocol: TCP, port: 53 }
        {{- range $root.Values.networkPolicy.ports }}
        - { protocol: TCP, port: {{ . }} }
        {{- end }}
{{- end }}
{{- if $root.Values.monitoring.serviceMonitor }}
---
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata:
  name: {{ .name }}
  labels: {{- include "monitoringLabels" $root | nindent 4 }}
spec:
  selector:
    matchLabels: {{- include "labels" . | nindent 6 }}
  endpoints:
    - { port: admin, interval: 15s }
{{- end }}
{{- end }}
