# A static korder in an image that holds nothing else: `docker build -t korder:0.1.0 .`

# The toolchain of rust-toolchain.toml, whose own target here is musl, linked statically.
FROM rust:1.95.0-alpine3.22 AS build
WORKDIR /korder
COPY Cargo.toml Cargo.lock ./
COPY src src
# Members of the workspace and a test, without which cargo does not read it; nothing of them is built.
COPY testbed testbed
COPY trials trials
COPY tests tests
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/korder/target \
    cargo build --release --locked --bin korder && cp target/release/korder /usr/local/bin/korder

FROM scratch
COPY --from=build /usr/local/bin/korder /korder
USER 65532:65532
EXPOSE 8080
ENTRYPOINT ["/korder"]
CMD ["run"]
