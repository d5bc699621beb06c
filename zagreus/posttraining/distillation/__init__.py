"""On-policy distillation with TRL's trainer: the student's own answers, judged by a teacher."""
