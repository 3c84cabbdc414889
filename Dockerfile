# A static binary and the CA certificates, nothing else: no shell, no package, no root.
FROM --platform=$BUILDPLATFORM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG TARGETOS TARGETARCH
ARG VERSION=1.0.0 COMMIT= DATE=
# The version-control directory is not in the build context, hence -buildvcs=false.
RUN CGO_ENABLED=0 GOOS=$TARGETOS GOARCH=$TARGETARCH \
    go build -trimpath -buildvcs=false -ldflags="-s -w -X main.version=$VERSION -X main.commit=$COMMIT -X main.date=$DATE" -o /out/ ./cmd/mqtt-nats-bridge ./cmd/ingest
# A new volume takes its owner from the directory that it covers.
RUN mkdir -p /out/state

FROM scratch
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/mqtt-nats-bridge /mqtt-nats-bridge
# The consumer into PostgreSQL: --entrypoint /ingest.
COPY --from=build /out/ingest /ingest
COPY --from=build --chown=65532:65532 /out/state /var/lib/mqtt-nats-bridge
USER 65532:65532
VOLUME ["/var/lib/mqtt-nats-bridge"]
EXPOSE 9464
HEALTHCHECK --interval=10s --timeout=5s --start-period=15s CMD ["/mqtt-nats-bridge", "healthcheck"]
ENTRYPOINT ["/mqtt-nats-bridge"]
