"""The flat backbone: pre-norm blocks over all tokens, as in Xiong et al. 2021 and Chen et al. 2021."""

from torch import Tensor, nn

from lra.backbones.classifier import Classifier, MakeAttention, Model
from lra.backbones.layers import Block


class Encoder(Classifier):
    """Every layer has the same width and sees every token."""

    def build_body(self, model: Model, make_attention: MakeAttention) -> int:
        self.blocks = nn.ModuleList(
            Block(make_attention(layer), dim=model.dim, mlp=model.mlp, dropout=model.dropout)
            for layer in range(model.layers)
        )
        return model.dim

    def body(self, x: Tensor, keep: Tensor | None) -> tuple[Tensor, Tensor | None]:
        for block in self.blocks:
            x = block(x, keep)
        return x, keep

    def attentions(self) -> list[nn.Module]:
        return [block.get_submodule("attention") for block in self.blocks]
