"""The field's networks in their own layouts: names and shapes of weights as published."""

import torch
from torch import nn
from torch.nn.functional import interpolate, normalize, relu
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet


def rotations(numbers):
    """SPIN's 6D: three rows of two, whose columns are the first two of the rotation."""
    pairs = numbers.view(-1, 3, 2)
    first = normalize(pairs[..., 0], dim=1)
    second = pairs[..., 1] - (first * pairs[..., 1]).sum(1, keepdim=True) * first
    second = normalize(second, dim=1)
    columns = [first, second, torch.cross(first, second, dim=1)]
    return torch.stack(columns, -1).view(len(numbers), -1, 3, 3)


class Regressor(nn.Module):
    """SPIN's, as VIBE and TCMR keep it; PARE's head has the same names."""

    def __init__(self, features=2048):
        super().__init__()
        self.add_regressor(features)

    def add_regressor(self, features=2048):
        self.fc1, self.fc2 = nn.Linear(features + 157, 1024), nn.Linear(1024, 1024)
        self.decpose, self.decshape = nn.Linear(1024, 144), nn.Linear(1024, 10)
        self.deccam = nn.Linear(1024, 3)
        for name, size in (("pose", 144), ("shape", 10), ("cam", 3)):
            self.register_buffer(f"init_{name}", torch.randn(1, size))

    def bodies(self, features):
        """Rotations, betas and (s, tx, ty)."""
        starts = self.init_pose, self.init_shape, self.init_cam
        said = [start.expand(len(features), -1) for start in starts]
        for _ in range(3):
            hidden = self.fc2(self.fc1(torch.cat([features, *said], 1)))
            heads = self.decpose, self.decshape, self.deccam
            said = [s + head(hidden) for s, head in zip(said, heads)]
        return rotations(said[0]), said[1], said[2]


class Spin(ResNet, Regressor):
    """ResNet-50 and regressor in one module."""

    def __init__(self):
        ResNet.__init__(self, Bottleneck, [3, 4, 6, 3])
        del self.fc
        self.add_regressor()

    def features(self, images):
        x = self.maxpool(relu(self.bn1(self.conv1(images))))
        for layer in (self.layer1, self.layer2, self.layer3, self.layer4):
            x = layer(x)
        return x.mean((2, 3))

    def forward(self, images):
        return self.bodies(self.features(images))


def conv(inputs, outputs, size, stride=1, bend=True):
    layers = [
        nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    return nn.Sequential(*layers, *([nn.ReLU()] * bend))


class Exchange(nn.Module):
    """A module of an HRNet's stage."""

    def __init__(self, widths):
        super().__init__()
        self.branches = nn.ModuleList(
            nn.Sequential(*(BasicBlock(w, w) for _ in range(4))) for w in widths
        )
        rows = []
        for i, target in enumerate(widths):
            row = nn.ModuleList()
            for j, source in enumerate(widths):
                if j > i:
                    up = nn.Upsample(scale_factor=2 ** (j - i), mode="nearest")
                    row.append(nn.Sequential(*conv(source, target, 1, bend=False), up))
                elif j == i:
                    row.append(nn.Identity())
                else:
                    steps = [conv(source, source, 3, 2) for _ in range(i - j - 1)]
                    row.append(nn.Sequential(*steps, conv(source, target, 3, 2, bend=False)))
            rows.append(row)
        self.fuse_layers = nn.ModuleList(rows)

    def forward(self, maps):
        maps = [branch(m) for branch, m in zip(self.branches, maps)]
        return [relu(sum(f(m) for f, m in zip(row, maps))) for row in self.fuse_layers]


class HrnetW32(nn.Module):
    """PARE's backbone; ``strided``: its "conv", else its "interp"; ``upward``: its parts'."""

    def __init__(self, strided, upward=False):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        self.conv2, self.bn2 = nn.Conv2d(64, 64, 3, 2, 1, bias=False), nn.BatchNorm2d(64)
        widen = nn.Sequential(nn.Conv2d(64, 256, 1, bias=False), nn.BatchNorm2d(256))
        self.layer1 = nn.Sequential(
            Bottleneck(64, 64, downsample=widen), *(Bottleneck(256, 64) for _ in range(3))
        )
        widths = [32, 64, 128, 256]
        self.transition1 = nn.ModuleList([conv(256, 32, 3), nn.Sequential(conv(256, 64, 3, 2))])
        for stage, count in ((2, 1), (3, 4), (4, 3)):
            modules = (Exchange(widths[:stage]) for _ in range(count))
            setattr(self, f"stage{stage}", nn.Sequential(*modules))
            if stage < 4:
                new = nn.Sequential(conv(widths[stage - 1], widths[stage], 3, 2))
                kept = [nn.Identity() for _ in range(stage)]
                setattr(self, f"transition{stage}", nn.ModuleList([*kept, new]))
        self.final_layer = nn.Conv2d(32, 24, 1)
        self.strided, self.upward = strided, upward
        if upward:
            for stage, width in ((2, 64), (3, 128), (4, 256)):
                steps = []
                for _ in range(stage - 1):
                    steps.append(nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True))
                    steps.extend(conv(width, width, 3))
                setattr(self, f"upsample_stage_{stage}", nn.Sequential(*steps))
        if strided:
            for stage, width in ((1, 32), (2, 64), (3, 128)):
                steps = [layer for _ in range(4 - stage) for layer in conv(width, width, 3, 2)]
                setattr(self, f"downsample_stage_{stage}", nn.Sequential(*steps))

    def forward(self, images):
        x = relu(self.bn1(self.conv1(images)))
        x = self.layer1(relu(self.bn2(self.conv2(x))))
        maps = run(self.stage2, [self.transition1[0](x), self.transition1[1](x)])
        maps = run(self.stage3, [maps[0], maps[1], self.transition2[2](maps[-1])])
        maps = run(self.stage4, [*maps, self.transition3[3](maps[-1])])
        if self.upward:
            larger = [getattr(self, f"upsample_stage_{n + 1}")(maps[n]) for n in range(1, 4)]
            return torch.cat([maps[0], *larger], 1)
        if self.strided:
            smaller = [getattr(self, f"downsample_stage_{n + 1}")(maps[n]) for n in range(3)]
        else:
            size = maps[3].shape[2:]
            smaller = [
                interpolate(m, size=size, mode="bilinear", align_corners=True) for m in maps[:3]
            ]
        return torch.cat([*smaller, maps[3]], 1)


def run(stage, maps):
    for module in stage:
        maps = module(maps)
    return maps


class PareHmr(nn.Module):
    """PARE's HMR: a backbone and a head."""

    def __init__(self, strided):
        super().__init__()
        self.backbone, self.head = HrnetW32(strided), Regressor(480)

    def forward(self, images):
        return self.head.bodies(self.backbone(images).mean((2, 3)))


class LocallyConnected(nn.Module):
    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(1, outputs, inputs, 24, 1, 1))


class PareHead(nn.Module):
    """Part attention in its published configuration: what it is asked for is in its names."""

    def __init__(self, filters):
        super().__init__()
        for branch in ("keypoint", "smpl"):
            layers = [*conv(480, filters, 3), *conv(filters, filters, 3)]
            setattr(self, f"{branch}_deconv_layers", nn.Sequential(*layers))
        self.keypoint_final_layer = nn.Conv2d(filters, 25, 1)
        self.smpl_final_layer = nn.Conv2d(filters, 64, 1)
        self.shape_mlp, self.cam_mlp = nn.Linear(24 * 64, 10), nn.Linear(24 * 64, 3)
        self.pose_mlp = LocallyConnected(filters, 6)
        self.register_buffer("temperature", torch.tensor(1.0))
        for name, size in (("pose", 144), ("shape", 10), ("cam", 3)):
            self.register_buffer(f"init_{name}", torch.randn(1, size))

    def attention(self, features):
        """Where each part is: weights over the places; the background is no part."""
        maps = self.keypoint_final_layer(self.keypoint_deconv_layers(features))
        return [maps[:, 1 + part].flatten(1).softmax(-1) for part in range(24)]

    def bodies(self, features):
        """Rotations, betas and (s, tx, ty), one part after the other."""
        attention = self.attention(features)
        seen = self.smpl_deconv_layers(features)
        thinned = self.smpl_final_layer(seen).flatten(2)
        seen = seen.flatten(2)
        six, found = [], []
        for part, weights in enumerate(attention):
            at_part = torch.stack([(weights * channel).sum(-1) for channel in seen.unbind(1)], -1)
            six.append(at_part @ self.pose_mlp.weight[0, :, :, part, 0, 0].T)
            found.append(torch.stack([(weights * c).sum(-1) for c in thinned.unbind(1)], -1))
        # Channel by channel, and in each part by part.
        found = torch.stack(found, -1).flatten(1)
        return rotations(torch.cat(six, -1)), self.shape_mlp(found), self.cam_mlp(found)


class Pare(nn.Module):
    """PARE's own network."""

    def __init__(self, filters=128):
        super().__init__()
        self.backbone, self.head = HrnetW32(False, upward=True), PareHead(filters)
        with torch.no_grad():
            # Maps that mean something: the parts are not everywhere.
            self.head.keypoint_final_layer.weight.mul_(20)

    def forward(self, images):
        return self.head.bodies(self.backbone(images))


class VibeEncoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.gru = nn.GRU(2048, hidden, num_layers=2)
        self.linear = nn.Linear(hidden, 2048)


class Vibe(nn.Module):
    """As its models are published: one direction, a linear layer, a residual."""

    def __init__(self, hidden):
        super().__init__()
        self.encoder, self.regressor = VibeEncoder(hidden), Regressor()

    def forward(self, features):
        found = self.encoder.gru(features[:, None])[0][:, 0]
        return self.regressor.bodies(self.encoder.linear(relu(found)) + features)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.fc = nn.Linear(2048, 256)
        bend = nn.Tanh()
        self.attention = nn.Sequential(
            nn.Linear(768, 256), bend, nn.Linear(256, 256), bend, nn.Linear(256, 3), bend
        )


class TcmrEncoder(nn.Module):
    def __init__(self, hidden):
        super().__init__()
        self.gru_cur = nn.GRU(2048, hidden, bidirectional=True, num_layers=2)
        self.gru_bef = nn.GRU(2048, hidden, num_layers=2)
        self.gru_aft = nn.GRU(2048, hidden, num_layers=2)
        self.linear_cur = nn.Linear(2 * hidden, 2048)
        self.linear_bef, self.linear_aft = nn.Linear(hidden, 2048), nn.Linear(hidden, 2048)
        self.attention = Attention()


class Tcmr(nn.Module):
    """The body in the middle of 16 frames; the past stands first in its attention."""

    def __init__(self, hidden):
        super().__init__()
        self.encoder, self.regressor = TcmrEncoder(hidden), Regressor()

    def forward(self, features):
        e, x = self.encoder, features[:, None]
        found = [
            e.linear_bef(relu(e.gru_bef(x[:8])[0][-1])),
            e.linear_cur(relu(e.gru_cur(x)[0][8])),
            e.linear_aft(relu(e.gru_aft(x[9:].flip(0))[0][-1])),
        ]
        y = torch.stack(found, 1)
        weights = e.attention.attention(e.attention.fc(y).flatten(1)).softmax(-1)
        return self.regressor.bodies((weights[..., None] * y).sum(1))


@torch.no_grad()
def trained(module, *inputs):
    """The module with weights that are not those it begins with, and the statistics of its inputs.

    Without these, what a deep network sees hardly reaches its end.
    """
    for name, value in module.state_dict().items():
        if value.dim() == 1 and "running" not in name:
            value.add_(0.1 * torch.randn_like(value))
    norms = [m for m in module.modules() if isinstance(m, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
    if norms:
        module.train()(*inputs)
    return module.eval()
