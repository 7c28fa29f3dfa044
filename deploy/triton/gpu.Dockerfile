# NVIDIA's Triton with what the preprocessing models need in Python. Not tested yet. From the root of the clone:
#   docker build -f deploy/triton/gpu.Dockerfile -t resnest-triton-gpu:0.2.0 .
# Engines only run in the TensorRT version that built them: build them with this image's version.
ARG TRITON=nvcr.io/nvidia/tritonserver:25.03-py3

FROM ${TRITON}
ENV PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1
WORKDIR /source
COPY deploy/triton/requirements.txt ./
# The base image contains the server and its network backends.
RUN --mount=type=cache,target=/root/.cache/pip \
    grep -vE '^(nvidia-pytriton|openvino|onnxruntime|flatbuffers)' requirements.txt > packages.txt \
    && python3 -m pip install --quiet --no-deps -r packages.txt
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip install --quiet --no-deps . && rm -r /source/*
# For Triton's own ONNX Runtime too, which no Python of this project starts.
ENV ORT_DISABLE_TELEMETRY=1 \
    DO_NOT_TRACK=1
COPY deploy/triton/supervise.py /opt/supervise.py
USER 1000:1000
WORKDIR /
HEALTHCHECK --interval=5s --timeout=5s --start-period=300s --retries=3 CMD ["python3", "/opt/supervise.py", "--check"]
ENTRYPOINT ["python3", "/opt/supervise.py", "--", "tritonserver"]
CMD ["--model-repository=/models", \
    "--exit-on-error=false", \
    "--strict-readiness=false", \
    "--model-control-mode=explicit", \
    "--load-model=*", \
    "--disable-auto-complete-config", \
    "--exit-timeout-secs=20"]
