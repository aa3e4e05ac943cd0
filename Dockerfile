# chunkgate in a small image, without root.
#
#   docker build -t chunkgate .
#   docker run -p 8080:8080 -v chunkgate:/data chunkgate
#
# The first start prints an API key, once: see `docker logs`.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /build
# What we depend on changes more seldom than what we write: built on its own, it
# is built anew only when Cargo.lock changes.
COPY Cargo.toml Cargo.lock ./
RUN mkdir src && touch src/lib.rs && echo 'fn main() {}' > src/main.rs \
    && cargo build --release --locked && rm -r src
COPY src src
COPY migrations migrations
RUN touch src/lib.rs src/main.rs && cargo build --release --locked

FROM debian:bookworm-slim
RUN apt-get update \
    && apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /data --shell /usr/sbin/nologin chunkgate \
    && install -d -o chunkgate -g chunkgate /data
COPY --from=build /build/target/release/chunkgate /usr/local/bin/chunkgate
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/chunkgate/

USER chunkgate
WORKDIR /data
VOLUME /data
ENV CHUNKGATE_DATA_DIR=/data
# The API and the page. The admin listener stays on the container's loopback
# unless CHUNKGATE_ADMIN_LISTEN says otherwise.
EXPOSE 8080

# bash speaks enough TCP to ask: nothing is installed for it.
HEALTHCHECK --interval=10s --timeout=3s --start-period=10s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/8080 && printf 'GET /readyz HTTP/1.1\\r\\nHost: localhost:8080\\r\\nConnection: close\\r\\n\\r\\n' >&3 && head -n 1 <&3 | grep -q ' 200 '"]

ENTRYPOINT ["chunkgate"]
CMD ["serve", "--listen", "0.0.0.0:8080", "--bootstrap-key"]
