"""What a Slurm cluster is asked: on the host, with the standard library alone."""
