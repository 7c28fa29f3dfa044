#!/bin/sh
# Prints one line per object in each image, with curl and jq: sh examples/detect.sh http://127.0.0.1:8000 photo.jpg …
# A key, if the gateway needs one, stands in RESNEST_API_KEY.
set -eu
url=$1
shift
for image; do
    # --fail-with-body keeps the gateway's sentence about an error, which jq's `error` prints.
    answer=$(curl --silent --show-error --fail-with-body --data-binary "@$image" \
        --header 'Content-Type: image/jpeg' \
        ${RESNEST_API_KEY:+--header "Authorization: Bearer $RESNEST_API_KEY"} \
        "$url/v1/detect?score_threshold=0.5&masks=none") || {
        printf '%s\n' "$answer" | jq --raw-output '.detail' >&2
        exit 1
    }
    printf '%s\n' "$answer" | jq --raw-output --arg image "$image" \
        '.detections[] | [$image, .class, (.score * 100 | round | tostring) + " %", (.box | map(round) | join(" "))] | @tsv'
done
