#!/bin/bash
# sbatch examples/slurm.sh jobs.csv results
# Each of the ten tasks does every tenth video; a task that was ended goes on when it is queued again.
#SBATCH --array=0-9
#SBATCH --cpus-per-task=4
#SBATCH --mem=4G
#SBATCH --requeue
#SBATCH --signal=TERM@60
exec s2svos batch "$1" --out "$2" --no-overlay \
    --shard "$SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
