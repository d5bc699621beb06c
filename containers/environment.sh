# The environment of every job: of the images (it is part of the base image) and, sourced, of the same locks as virtual environments.
# No network at run time, no telemetry; a job that is there to download unsets what it must.
export HF_HUB_OFFLINE=1 TRANSFORMERS_OFFLINE=1 HF_DATASETS_OFFLINE=1
export HF_HUB_DISABLE_TELEMETRY=1 DO_NOT_TRACK=1 AXOLOTL_DO_NOT_TRACK=1 WANDB_MODE=disabled
export TOKENIZERS_PARALLELISM=false
export PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PYTHONHASHSEED=0 PYTHONNOUSERSITE=1 PYTHONSAFEPATH=1
export LANG=C.UTF-8 TZ=UTC
# The home folder of a job is the repository: caches go elsewhere.
export XDG_CACHE_HOME="${TMPDIR:-/tmp}/zagreus-cache-$(id -u)"
export HF_HOME="$XDG_CACHE_HOME/huggingface" MPLCONFIGDIR="$XDG_CACHE_HOME/matplotlib"
export TRITON_HOME="$XDG_CACHE_HOME" NUMBA_CACHE_DIR="$XDG_CACHE_HOME/numba"
