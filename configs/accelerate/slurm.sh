#!/bin/bash
# Two machines with eight GPUs each under Slurm:
#   sbatch configs/accelerate/slurm.sh configs/cifar10.yaml run.name=cifar10
# Five minutes before its time is up the job saves its state and queues itself again.
#SBATCH --job-name=atd
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=12:00:00
#SBATCH --signal=B:USR1@300
#SBATCH --requeue
#SBATCH --open-mode=append
set -uo pipefail

again=""
save() {
    again=yes
    # To the job's steps: torchrun passes it on, and all processes save at the next step.
    scancel --signal=TERM "$SLURM_JOB_ID"
}
trap save USR1

first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export OMP_NUM_THREADS=$((SLURM_CPUS_PER_TASK / SLURM_GPUS_ON_NODE))
# Otherwise restarted processes look for each other at the addresses of those before them.
export TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1
config=$1
shift
srun torchrun \
    --nnodes "$SLURM_NNODES" \
    --nproc-per-node "$SLURM_GPUS_ON_NODE" \
    --rdzv-id "$SLURM_JOB_ID" \
    --rdzv-backend c10d \
    --rdzv-endpoint "$first:29500" \
    --max-restarts 3 \
    train.py --config "$config" "$@" &
step=$!
wait "$step"
status=$?
if [[ $again ]]; then
    # The signal ended the first wait, not the step.
    wait "$step"
    scontrol requeue "$SLURM_JOB_ID"
    exit 0
fi
exit "$status"
