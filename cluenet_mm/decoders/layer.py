"""One layer of the universal decoder."""

from torch import Tensor, nn

from ..layers import RecurrentClustering
from ..ops import split_heads


class ClusterDecoderLayer(nn.Module):
    """Cluster the points of a level, let the centers see each other, transform them.

    Each of the three parts is added to the centers and normalized.

    Args:
        embed_dims: Channels ``E``.
        num_heads: Number of heads ``G``.
        num_iterations: Iterations of the recurrent clustering.
        hidden_dims: Channels between the two Linear layers of the FFN.
        drop_rate: Dropout probability.
    """

    def __init__(
        self,
        embed_dims: int,
        num_heads: int,
        num_iterations: int,
        hidden_dims: int,
        drop_rate: float,
    ) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.key = nn.Linear(embed_dims, embed_dims)
        self.value = nn.Linear(embed_dims, embed_dims)
        self.clustering = RecurrentClustering(embed_dims, num_heads, num_iterations)
        self.proj = nn.Linear(embed_dims, embed_dims)
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attention = nn.MultiheadAttention(
            embed_dims, num_heads, drop_rate, batch_first=True
        )
        self.norm2 = nn.LayerNorm(embed_dims)
        self.ffn = nn.Sequential(
            nn.Linear(embed_dims, hidden_dims),
            nn.ReLU(inplace=True),
            nn.Dropout(drop_rate),
            nn.Linear(hidden_dims, embed_dims),
        )
        self.norm3 = nn.LayerNorm(embed_dims)
        self.drop = nn.Dropout(drop_rate)

    def forward(
        self,
        centers: Tensor,
        position: Tensor,
        points: Tensor,
        point_position: Tensor,
        point_mask: Tensor | None,
    ) -> Tensor:
        """Update the centers.

        Args:
            centers: ``(B, L, E)``.
            position: ``(B, L, E)`` of the centers.
            points: ``(B, N, E)`` of one level.
            point_position: ``(B, N, E)``.
            point_mask: ``(B, 1, N)``, zero for padding, or ``None``.

        Returns:
            ``(B, L, E)``.
        """
        keys = split_heads(self.key(points + point_position), self.num_heads)
        values = split_heads(self.value(points), self.num_heads)
        means = self.clustering(centers, keys, values, point_mask, position)
        centers = self.norm1(centers + self.drop(self.proj(means)))
        queries = centers + position
        seen, _ = self.attention(queries, queries, centers, need_weights=False)
        centers = self.norm2(centers + self.drop(seen))
        return self.norm3(centers + self.drop(self.ffn(centers)))
