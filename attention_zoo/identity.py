"""No mixing at all: a control that sees one token at a time.

Letters: v is the projected value of every token, y what the attention returns.
"""

from torch import Tensor

from attention_zoo import QKVAttention, register


@register(
    "identity",
    title="Identity (control)",
    cost="O(N)",
    family="control",
    state="its own token alone",
    blind="any other token",
    expected_failures={"learns": "mixes no tokens"},
)
class IdentityAttention(QKVAttention):
    """y = out(v); with conv=5, out(v + local(v)) (`local_conv` has the convolution alone)."""

    def attend(self, q: Tensor, k: Tensor, v: Tensor, keep: Tensor | None = None) -> Tensor:  # noqa: ARG002
        return v
