"""What the pipeline runs on: Debian's archive, Apptainer, wheelhouses, images.

Standard library only: it runs before anything is installed.
"""
