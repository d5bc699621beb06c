"""The chat template: ChatML, `<|im_start|>ROLE`, newline, content, `<|im_end|>`, newline."""

TURN_START = "<|im_start|>"
TURN_END = "<|im_end|>"

TEMPLATE = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] "
    "+ '<|im_end|>' + '\\n' }}{% endfor %}{% if add_generation_prompt %}{{ "
    "'<|im_start|>assistant\\n' }}{% endif %}"
)
