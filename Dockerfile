# s2svos on processors: docker build -t s2svos . ; then, also with a read-only file system:
#   docker run --rm --read-only --tmpfs /tmp -v "$PWD:/data" s2svos infer video.mp4 --mask first.png -o /data/out
# Threads follow the container's CPU quota. /data has to be writable for user 10001, or add --user.
FROM python:3.12-slim AS build
COPY . /src
RUN python -m venv /opt/s2svos && \
    /opt/s2svos/bin/pip install --no-cache-dir -c /src/constraints/newest.txt "/src[cpu,coco,studio]"

FROM python:3.12-slim
COPY --from=build /opt/s2svos /opt/s2svos
# What libraries would write into a home goes to /tmp; bytecode is there already.
ENV PATH=/opt/s2svos/bin:$PATH HOME=/tmp PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
USER 10001
WORKDIR /data
ENTRYPOINT ["s2svos"]
CMD ["--help"]
