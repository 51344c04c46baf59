#!/bin/sh
# The experiment of the R2P paper (arXiv 2505.17571), as one script. Settings are variables of the environment;
# docs/reproduce.md explains each. A run that was stopped goes on where it was: start the same command again.
set -eu

MODEL=${MODEL:-hosted_vllm/deepseek-ai/DeepSeek-R1-Distill-Qwen-7B}
API_BASE=${API_BASE-http://localhost:8000/v1}   # empty for a model in this process or of a vendor
CARRIER=${CARRIER:-thinking}                    # fields, for a model that does not think
TASKS=${TASKS:-"lamp1 lamp2 lamp3 lamp4 lamp5 lamp7"}
SPLITS=${SPLITS:-"user time"}
DATA=${DATA:-lamp}                              # DATA/TASK-SPLIT, as `data get` makes it; fetched where it is missing
K=${K:-4}
LIMIT=${LIMIT:-}                                # report on so many users; empty for all
TEMPERATURE=${TEMPERATURE:-}                    # empty: what the model's makers recommend
OUTPUT=${OUTPUT:-runs/reproduce}
PYTHON=${PYTHON:-.venv/bin/python}

ROWS="--only predict --only cot --only r2p:template --only r2p:assertions --only r2p:intervention"
ROWS="$ROWS --only r2p:candidates --only r2p:synthesis"

for task in $TASKS; do
    for split in $SPLITS; do
        files=$DATA/$task-$split
        run=$OUTPUT/$task-$split
        [ -e "$files/dev_questions.json" ] || "$PYTHON" cli.py data get "$task" --split "$split" --output "$files"
        "$PYTHON" cli.py data check "$files" --task "$task" || [ $? -eq 3 ]  # flawed rows are left out below
        if [ -e "$run/report.json" ]; then
            echo "$run is finished"
            continue
        fi
        resume=""
        [ ! -e "$run/config.json" ] || resume="--resume"
        # shellcheck disable=SC2086  # words of these are options
        "$PYTHON" cli.py evaluate --task "$task" --data "$files" --model "$MODEL" \
            ${API_BASE:+--api-base "$API_BASE"} --carrier "$CARRIER" --k "$K" ${LIMIT:+--limit "$LIMIT"} \
            ${TEMPERATURE:+--temperature "$TEMPERATURE"} ${OPTIONS:-} --ablate $ROWS --skip-bad \
            --output "$run" $resume
    done
done
