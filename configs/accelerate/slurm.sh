#!/bin/bash
# Two machines with eight GPUs each under Slurm; submit the same file again to go on.
#   sbatch configs/accelerate/slurm.sh configs/cifar10.yaml run.name=cifar10
#SBATCH --job-name=atd
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=12:00:00
# The state is saved before the time is up, and the job queues itself again.
#SBATCH --signal=TERM@120
#SBATCH --requeue
set -euo pipefail

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
config=$1
shift
srun torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$first:29500" \
    --max-restarts 3 \
    train.py --config "$config" "$@"
