"""The reader of the configuration, for the rules.

Each module holds the questions of one kind of rule. A question is a method of a frozen object that
is made once from the checked configuration (`workflow.Workflow`). Methods take the wildcards of a
job and return files, options or resources.

Nothing here imports Snakemake. Paths keep Snakemake's <pathvars>; `paths.Paths.path` fills them in.
"""
