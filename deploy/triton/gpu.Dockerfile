# NVIDIA's Triton with what the preprocessing models need in Python. Not tested yet. From the root of the clone:
#   docker build -f deploy/triton/gpu.Dockerfile -t resnest-triton-gpu:0.2.0 .
# With --target export: the command `resnest` in the same image, to build engines with Triton's own TensorRT.
# Engines only run in the TensorRT version that built them. TENSORRT is the one in TRITON; constraints.txt pins it too.
ARG TRITON=nvcr.io/nvidia/tritonserver:25.10-py3
ARG TENSORRT=10.13.3.9

FROM ${TRITON} AS base
ARG TENSORRT
# The number that TensorRT's library returns: 1000 · (10 · major) + 100 · minor + patch.
RUN python3 -c "from ctypes import CDLL; major, minor, patch, _ = map(int, '${TENSORRT}'.split('.')); \
here = CDLL(f'libnvinfer.so.{major}').getInferLibVersion(); \
assert here == 10000 * major + 100 * minor + patch, f'this Triton has TensorRT {here}: set TENSORRT to its version'"

FROM base AS export
ARG TENSORRT
ENV PIP_ROOT_USER_ACTION=ignore PIP_BREAK_SYSTEM_PACKAGES=1
WORKDIR /source
COPY . .
# Of TensorRT only its Python modules: they load the libraries of the base image.
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m pip install --quiet -c constraints.txt virtualenv && virtualenv --quiet /opt/export \
    && /opt/export/bin/python -m pip install --quiet -c constraints.txt '.[export]' 'cuda-bindings~=13.0' triton \
    && /opt/export/bin/python -m pip install --quiet --no-deps \
        "tensorrt-cu13==${TENSORRT}" "tensorrt-cu13-bindings==${TENSORRT}" \
    && rm -r /source/*
# Kernels are cached in /tmp: the root file system is read-only, and the user may be any.
ENV HOME=/tmp \
    USER=resnest \
    ORT_DISABLE_TELEMETRY=1 \
    DO_NOT_TRACK=1
USER 1000:1000
WORKDIR /
ENTRYPOINT ["/opt/export/bin/resnest"]
CMD ["--help"]

FROM base
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
# A new volume takes its owner from the folder that it is mounted on.
RUN install -d -o 1000 -g 1000 /var/cache/cuda
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
    "--exit-timeout-secs=20", \
    "--grpc-max-connection-age=10000"]
