"""The pyramid that all families share: embedding, stages, reducers, output norms."""

import warnings
from collections.abc import Callable, Iterable, Sequence

import torch
from mmengine.model import BaseModule, PretrainedInit
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..checkpoint import check_weights
from ..layers import Membership

# A side for squares in all stages, or one entry per stage: a side or a pair of rows and
# columns.
Grids = int | Sequence[int | tuple[int, int]]


def resolve_arch(arch: str | dict, settings: dict[str, dict]) -> dict:
    """Look a variant up, or check one that is given as a dict.

    Args:
        arch: Name of a row of ``settings``, or a dict with the keys of a row.
        settings: The table of variants.

    Returns:
        A copy of the row.

    Raises:
        ValueError: If the name is unknown, a key is missing or unknown, or a value is
            not like those of the table.
    """
    if not isinstance(arch, str | dict):
        raise ValueError(f"arch must be a name or a dict, not {arch!r}")
    if isinstance(arch, str):
        if arch not in settings:
            raise ValueError(f"unknown arch {arch!r}; choose from {sorted(settings)}")
        return dict(settings[arch])
    example = next(iter(settings.values()))
    keys = set(example)
    if set(arch) != keys:
        raise ValueError(
            f"an arch dict needs exactly the keys {sorted(keys)}; "
            f"missing {sorted(keys - set(arch))}, unknown {sorted(set(arch) - keys)}"
        )
    depths = arch["depths"]
    stages = len(depths) if isinstance(depths, list | tuple) else 0
    for name, value in arch.items():
        length = 3 if name == "patch" else stages
        if isinstance(example[name], bool):
            fits, expected = isinstance(value, bool), "True or False"
        elif isinstance(example[name], int):
            fits, expected = _all_positive([value], name), "a positive number"
        else:
            several = isinstance(value, list | tuple) and len(value) == length > 0
            fits = several and _all_positive(value, name)
            expected = f"{length or 'some'} positive numbers"
        if not fits:
            raise ValueError(f"{name} of arch must be {expected}, not {value!r}")
    return dict(arch)


def _all_positive(values: Sequence, name: str) -> bool:
    """Whether these are sizes; the padding of a patch may be 0."""
    kinds = int | float if name == "mlp_ratios" else int
    least = [1, 1, 0] if name == "patch" else [1e-6] * len(values)
    return all(
        isinstance(value, kinds) and not isinstance(value, bool) and value >= low
        for value, low in zip(values, least, strict=True)
    )


def per_stage(value: Grids, num_stages: int, name: str) -> list[tuple[int, int]]:
    """Spread a grid option over the stages.

    Args:
        value: A side, or one entry per stage: a side or a ``(rows, columns)`` pair.
        num_stages: Number of stages.
        name: Name of the option, for the error.

    Returns:
        One ``(rows, columns)`` pair per stage.

    Raises:
        ValueError: If the number of entries is wrong or a count is not positive.
    """
    entries = [value] * num_stages if isinstance(value, int) else value
    try:
        pairs = [(v, v) if isinstance(v, int) else tuple(v) for v in entries]
        fits = len(pairs) == num_stages and all(min(h, w) >= 1 for h, w in pairs)
    except (TypeError, ValueError):
        fits = False
    if not fits:
        raise ValueError(
            f"{name} must be a positive int or {num_stages} entries, each a positive "
            f"int or a (rows, columns) pair, not {value!r}"
        )
    return pairs


def renamed_grids(cluster_grids: Grids, proposal_grids: Grids | None) -> Grids:
    """Take ``cluster_grids`` under its old name, and say so."""
    if proposal_grids is None:
        return cluster_grids
    warnings.warn(
        "proposal_grids is called cluster_grids now, as in all families; the old name "
        "will go in version 0.3",
        FutureWarning,
        stacklevel=4,
    )
    return proposal_grids


class ClusterBackbone(BaseModule):
    """Base class of the clustering backbones.

    A family makes the parts of a stage and hands them to :meth:`add_stage`, for the
    first ``num_stages`` stages; this class runs them. Maps are channels-last inside and
    ``(B, C, h, w)`` outside. Stages and norms behind the last output are not built, so
    that distributed training meets no unused parameter.

    Args:
        row: A row of ``arch_settings``; this class reads ``depths``, ``embed_dims`` and
            ``patch``.
        embed: Image ``(B, 3, H, W)`` to points ``(B, h, w, C)``.
        norm: Makes the output norm of ``C`` channels.
        out_indices: Stages to return, an int or a sequence; negative ones count from
            the end.
        frozen_stages: -1 freezes nothing; ``k >= 0`` freezes the embedding and the
            first ``k`` stages with their reducers and norms.
        drop_path_rate: Stochastic-depth rate of the last block of the full pyramid.
        with_cp: Whether blocks recompute their activations in the backward pass.
        nearest_cells: 0 returns maps alone. With 1 the memberships follow them, for
            every point the cell of the next stage that it was pooled into; with more
            the nearest cells and their similarities, where reducers cluster.
        init_cfg: Initialization config of MMEngine.

    Attributes:
        num_stages: Stages that are built.
        out_channels: Channels of each output, what ``in_channels`` of a neck has to be.
        out_strides: Pixels of the image between the points of each output.
        drop_path_rates: Stochastic-depth rate of every block of every stage.

    Raises:
        ValueError: If ``out_indices``, ``frozen_stages`` or a rate is out of range.
    """

    def __init__(
        self,
        row: dict,
        embed: nn.Module,
        norm: Callable[[int], nn.Module],
        *,
        out_indices: int | Sequence[int],
        frozen_stages: int,
        drop_path_rate: float,
        with_cp: bool,
        nearest_cells: int,
        init_cfg: dict | list[dict] | None,
    ) -> None:
        super().__init__(init_cfg=init_cfg)
        depths, dims, stride = row["depths"], row["embed_dims"], row["patch"][1]
        num_stages = len(depths)
        indices = [out_indices] if isinstance(out_indices, int) else list(out_indices)
        if not indices or any(i not in range(-num_stages, num_stages) for i in indices):
            raise ValueError(
                f"out_indices must name stages in [-{num_stages}, {num_stages}), "
                f"not {out_indices!r}"
            )
        self.out_indices = tuple(sorted({i % num_stages for i in indices}))
        self.num_stages = self.out_indices[-1] + 1
        self._all_stages = num_stages
        if frozen_stages not in range(-1, self.num_stages + 1):
            raise ValueError(
                f"frozen_stages must be in [-1, {self.num_stages}], not {frozen_stages}"
            )
        self.frozen_stages = frozen_stages
        self.with_cp = with_cp
        if not isinstance(nearest_cells, int) or nearest_cells < 0:
            raise ValueError(
                f"nearest_cells must be an int of at least 0, not {nearest_cells!r}"
            )
        self.nearest_cells = nearest_cells
        self.out_channels = tuple(dims[i] for i in self.out_indices)
        self.out_strides = tuple(stride * 2**i for i in self.out_indices)
        self.drop_path_rates = drop_path_rates(drop_path_rate, depths)

        self.embed = embed
        self.reducers = nn.ModuleList()
        self.stages = nn.ModuleList()
        for i in self.out_indices:
            self.add_module(f"norm{i}", norm(dims[i]))

    def add_stage(
        self, blocks: Iterable[nn.Module], reducer: nn.Module | None = None
    ) -> None:
        """Add the next stage, and freeze it if it is to be frozen.

        Args:
            blocks: Modules ``block(x, state) -> (x, state)``, where the state of a
                stage begins as ``None``.
            reducer: In front of the stage, ``(B, h, w, C)`` to half as many rows and
                columns, rounded up; ``None`` for the first. Called with
                ``nearest_cells`` it returns the map and a
                :class:`~cluenet_mm.layers.Membership`.

        Raises:
            ValueError: If the nearest cells of a convolution are asked for.
        """
        if reducer is not None:
            if self.nearest_cells > 1 and not hasattr(reducer, "assignment"):
                raise ValueError(
                    f"cannot give {self.nearest_cells} nearest cells: the reducers of "
                    f"{type(self).__name__} are convolutions and compare nothing. Set "
                    "nearest_cells=1 to pool by place."
                )
            self.reducers.append(reducer)
        self.stages.append(nn.ModuleList(blocks))
        self._freeze()

    def forward(self, image: Tensor) -> tuple[Tensor | tuple[Membership, ...], ...]:
        """Run the pyramid.

        Args:
            image: ``(B, 3, H, W)``, floating point, normalized.

        Returns:
            Normalized maps ``(B, C_i, h_i, w_i)`` of the stages in ``out_indices``, in
            ascending order. They are contiguous: mmcv's operators on regions of
            interest read the memory of a ``channels_last`` map in the wrong order.
            With ``nearest_cells`` one more entry follows: a tuple with the
            :class:`~cluenet_mm.layers.Membership` of every stage but the last that is
            built, in ascending order.
        """
        return self.forward_from(0, self.embed(image))

    def forward_from(
        self, first: int, x: Tensor
    ) -> tuple[Tensor | tuple[Membership, ...], ...]:
        """Run the blocks of a stage and all that is behind them.

        Args:
            first: The stage, from 0.
            x: ``(B, h, w, C)``, what the stage's blocks get: points of the embedding,
                or what the reducer in front of the stage returns.

        Returns:
            As :meth:`forward`, without what lies in front of the stage.
        """
        outputs, memberships = [], []
        for i in range(first, self.num_stages):
            if i > first:
                x = self.reducers[i - 1](x, self.nearest_cells)
                if self.nearest_cells:
                    x, membership = x
                    memberships.append(membership)
            state = None
            for block in self.stages[i]:
                if self.with_cp and torch.is_grad_enabled():
                    x, state = checkpoint(block, x, state, use_reentrant=False)
                else:
                    x, state = block(x, state)
            if i in self.out_indices:
                out = getattr(self, f"norm{i}")(x).permute(0, 3, 1, 2)
                outputs.append(out.contiguous())
        if self.nearest_cells:
            outputs.append(tuple(memberships))
        return tuple(outputs)

    def init_weights(self) -> None:
        """Initialize every layer as the release does, then as ``init_cfg`` says.

        Raises:
            CheckpointError: If the weights of ``dict(type='Pretrained', ...)`` are not
                those of this backbone; names the first mismatches. They may lack the
                output norms, and hold norms and stages that this one does not build.
        """
        if not self.is_init:
            self.apply(self.init_layer)
            self._check_pretrained()
        super().init_weights()

    @staticmethod
    def init_layer(module: nn.Module) -> None:
        """Initialize one module of the backbone; left alone unless overridden.

        Args:
            module: Any submodule, containers included.
        """

    def _check_pretrained(self) -> None:
        """Compare pretrained weights: MMEngine loads what happens to fit."""
        cfgs = [self.init_cfg] if isinstance(self.init_cfg, dict) else self.init_cfg
        for cfg in cfgs or ():
            if cfg["type"] not in ("Pretrained", PretrainedInit):
                continue
            prefix = cfg.get("prefix") or ""
            if prefix and not prefix.endswith("."):
                prefix += "."
            spare = [f"stages.{i}." for i in range(self.num_stages, self._all_stages)]
            spare += [
                f"reducers.{i}." for i in range(self.num_stages - 1, self._all_stages)
            ]
            norms = tuple(f"norm{i}." for i in range(self._all_stages))
            check_weights(
                self,
                CheckpointLoader.load_checkpoint(cfg["checkpoint"], "cpu"),
                cfg["checkpoint"],
                prefix=prefix,
                allow_missing=norms,
                allow_unexpected=(*norms, *spare),
            )

    def train(self, mode: bool = True) -> "ClusterBackbone":
        """Set the mode; frozen parts stay in evaluation mode."""
        super().train(mode)
        self._freeze()
        return self

    def _freeze(self) -> None:
        if self.frozen_stages < 0:
            return
        frozen = [self.embed]
        for i in range(min(self.frozen_stages, len(self.stages))):
            frozen.append(self.stages[i])
            if i > 0:
                frozen.append(self.reducers[i - 1])
            if i in self.out_indices:
                frozen.append(getattr(self, f"norm{i}"))
        for module in frozen:
            module.eval()
            module.requires_grad_(False)


def drop_path_rates(rate: float, depths: Sequence[int]) -> list[list[float]]:
    """Stochastic-depth rates that grow linearly with the block's index.

    Args:
        rate: Rate of the last block, in [0, 1).
        depths: Blocks per stage, at least one each.

    Returns:
        The rate of every block of every stage.

    Raises:
        ValueError: If the rate or a depth is out of range.
    """
    if not isinstance(rate, int | float) or not 0 <= rate < 1:  # false for NaN
        raise ValueError(f"drop_path_rate must be in [0, 1), not {rate!r}")
    if not all(isinstance(depth, int) and depth > 0 for depth in depths):
        raise ValueError(f"depths must be positive integers, not {depths!r}")
    last = max(sum(depths) - 1, 1)
    rates, first = [], 0
    for depth in depths:
        rates.append([rate * (first + j) / last for j in range(depth)])
        first += depth
    return rates
