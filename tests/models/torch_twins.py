"""The same networks written plainly in PyTorch, with torchvision's state-dict names, to compare with.

Torchvision itself is not needed. The small-input forms, which it does not have, follow the same naming.
"""

import torch
from torch import nn


class Chain(nn.Module):
    def __init__(self, features, pool, classifier):
        super().__init__()
        self.features, self.avgpool, self.classifier = nn.Sequential(*features), pool, nn.Sequential(*classifier)

    def forward(self, x):
        return self.classifier(torch.flatten(self.avgpool(self.features(x)), 1))


def alexnet(classes=1000, channels=3):
    features = [
        *(nn.Conv2d(channels, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(3, 2)),
    ]
    classifier = [
        *(nn.Dropout(), nn.Linear(256 * 6 * 6, 4096), nn.ReLU()),
        *(nn.Dropout(), nn.Linear(4096, 4096), nn.ReLU()),
        nn.Linear(4096, classes),
    ]
    return Chain(features, nn.AdaptiveAvgPool2d(6), classifier)


def small_alexnet(classes=10, channels=3):
    features = [
        *(nn.Conv2d(channels, 64, 5, stride=2, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(64, 192, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
    ]
    classifier = [nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, classes)]
    return Chain(features, nn.AdaptiveAvgPool2d(1), classifier)


VGG11 = [64, "pool", 128, "pool", 256, 256, "pool", 512, 512, "pool", 512, 512]


def vgg_features(plan, channels):
    for step in plan:
        if step == "pool":
            yield nn.MaxPool2d(2)
        else:
            yield from (nn.Conv2d(channels, step, 3, padding=1), nn.ReLU())
            channels = step


def vgg11(classes=1000, channels=3):
    classifier = [
        *(nn.Linear(512 * 7 * 7, 4096), nn.ReLU(), nn.Dropout()),
        *(nn.Linear(4096, 4096), nn.ReLU(), nn.Dropout()),
        nn.Linear(4096, classes),
    ]
    return Chain(vgg_features([*VGG11, "pool"], channels), nn.AdaptiveAvgPool2d(7), classifier)


def small_vgg11(classes=10, channels=3):
    classifier = [nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, classes)]
    return Chain(vgg_features(VGG11, channels), nn.AdaptiveAvgPool2d(1), classifier)


def four_convolutions(classes=10, channels=3):
    classifier = [nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, classes)]
    return Chain(vgg_features(VGG11[:7], channels), nn.AdaptiveAvgPool2d(1), classifier)


class Bottleneck(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, width, 1, bias=False), nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride=stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3, self.bn3 = nn.Conv2d(width, 4 * width, 1, bias=False), nn.BatchNorm2d(4 * width)
        self.downsample = None
        if stride != 1 or inputs != 4 * width:
            convolution = nn.Conv2d(inputs, 4 * width, 1, stride=stride, bias=False)
            self.downsample = nn.Sequential(convolution, nn.BatchNorm2d(4 * width))

    def forward(self, x):
        y = torch.relu(self.bn1(self.conv1(x)))
        y = torch.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return torch.relu(y + (x if self.downsample is None else self.downsample(x)))


class ResNet50(nn.Module):
    def __init__(self, classes=1000, channels=3, small=False):
        super().__init__()
        if small:
            self.conv1, self.maxpool = nn.Conv2d(channels, 64, 3, padding=1, bias=False), nn.Identity()
        else:
            self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)
            self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        self.bn1 = nn.BatchNorm2d(64)
        inputs = 64
        for stage, (width, blocks) in enumerate([(64, 3), (128, 4), (256, 6), (512, 3)], start=1):
            layer = []
            for block in range(blocks):
                layer.append(Bottleneck(inputs, width, 2 if stage > 1 and block == 0 else 1))
                inputs = 4 * width
            setattr(self, f"layer{stage}", nn.Sequential(*layer))
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.maxpool(torch.relu(self.bn1(self.conv1(x))))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.fc(x.mean(dim=(2, 3)))


def small_resnet50(classes=10, channels=3):
    return ResNet50(classes, channels, small=True)


def randomized(network, seed=0):
    """The network in evaluation mode, with batch-norm parameters and statistics as training would leave them."""
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.2)
            module.running_mean.normal_(std=0.3)
            module.running_var.uniform_(0.5, 2.0)
            module.num_batches_tracked.fill_(7)
    return network.eval()
