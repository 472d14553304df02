"""The flat backbone: blocks over all tokens, as in Xiong et al. 2021 and Chen et al. 2021."""

from typing import Literal

from torch import Tensor, nn

from lra.backbones import register
from lra.backbones.classifier import Classifier, MakeAttention, Model
from lra.backbones.layers import Block


@register("flat", title="Flat encoder", paper="https://arxiv.org/abs/2011.04006")
class Encoder(Classifier):
    """Every layer has the same width and sees every token.

    norm: before each part of a block, as LRA's code has it (`pre`), or after the sum, as in Vaswani et al. 2017
    (`post`); with `post` no norm follows the last block. parallel: attention and MLP of a block read the same input,
    side by side (Wang and Komatsuzaki 2021, GPT-J); with `pre` only.
    """

    def build_body(
        self,
        model: Model,
        make_attention: MakeAttention,
        *,
        norm: Literal["pre", "post"] = "pre",
        parallel: bool = False,
    ) -> int:
        if norm == "post" and parallel:
            raise ValueError("parallel=true needs norm=pre: attention and MLP side by side read one normed input")
        self.normed = norm == "post"
        self.blocks = nn.ModuleList(
            Block(
                make_attention(layer), dim=model.dim, mlp=model.mlp, dropout=model.dropout, norm=norm, parallel=parallel
            )
            for layer in range(model.layers)
        )
        return model.dim

    def body(self, x: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for block in self.blocks:
            x = block(x, keep)
        return x, keep

    def attentions(self) -> list[nn.Module]:
        return [block.get_submodule("attention") for block in self.blocks]
