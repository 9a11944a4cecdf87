# s2svos on NVIDIA GPUs through PyTorch: docker build -f docker/cuda.Dockerfile -t s2svos-cuda . ; then
#   docker run --rm --gpus all -v "$PWD:/data" s2svos-cuda infer video.mp4 --mask first.png --engine torch-cuda
# PyTorch's wheels bring CUDA; the host needs the driver and NVIDIA's container toolkit alone.
FROM python:3.12-slim
COPY . /src
RUN pip install --no-cache-dir -c /src/constraints/newest.txt "/src[cpu,train]"
ENV HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
ENTRYPOINT ["s2svos"]
CMD ["--help"]
