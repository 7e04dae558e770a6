"""Train the demo's vision transformer from scratch: ``python -m lcam_cli.demo.make_vit_weights``.

Writes ``vit.safetensors`` beside this file, then reports the accuracy on fresh images and how
well the planted shortcut was learnt. Images, masks on them, labels and seed are those of the CNN
(``make_weights``); so is the second part of the loss, which looks at the object's own tokens, and
without which the class token would take far more images to find what to attend to. About half an
hour on two CPU cores.
"""

from __future__ import annotations

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional
from torchvision.models import VisionTransformer

from lcam_cli.demo.make_weights import (
    LABEL_SMOOTHING,
    batches,
    hidden_in_part,
    hidden_softly,
    jittered,
    normalised,
    report,
    views,
)
from lcam_cli.demo.pictures import CLASSES, CLASSIFIER_SEED, SHORTCUT_CLASS
from lcam_cli.demo.vit import WEIGHTS_FILE, demo_vit

PER_CLASS = 360
EPOCHS = 40
LEARNING_RATE = 1.5e-3
SOFT_SHARE = 0.3  # of the epochs, the last ones, in which images are dimmed as well


def main() -> None:
    """Make images, train, save, report."""
    torch.manual_seed(CLASSIFIER_SEED)
    torch.set_num_threads(1)  # so that sums round alike on any number of cores
    labels = torch.arange(len(CLASSES)).repeat_interleave(PER_CLASS)
    print(f"making {len(labels)} images", flush=True)
    classes, numbers = range(len(CLASSES)), range(PER_CLASS)
    pictures = views([(c, n, CLASSIFIER_SEED, None) for c in classes for n in numbers])
    network = demo_vit()
    train(network, pictures, labels)
    save(network)
    report(network)


def train(network: VisionTransformer, pictures: Tensor, labels: Tensor) -> None:
    """Train in place: AdamW, one-cycle learning rate; prints a line an epoch.

    Args:
        network: With random weights.
        pictures: What ``views`` returns.
        labels: Class indices, (N,).
    """
    steps_an_epoch = sum(1 for _ in batches(len(labels)))
    optimizer = torch.optim.AdamW(network.parameters(), weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, LEARNING_RATE, total_steps=EPOCHS * steps_an_epoch
    )
    network.train()
    for epoch in range(EPOCHS):
        hide = hidden_softly if epoch >= (1 - SOFT_SHARE) * EPOCHS else hidden_in_part
        losses, right = [], []
        for batch in batches(len(labels)):
            shown = jittered(pictures[batch])
            # Half of the batches in black rectangles: the last epochs are dimmed instead.
            loss, logits = loss_of(network, hide(shown), labels[batch])
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
            right.append((logits.argmax(1) == labels[batch]).float().mean().item())
        print(
            f"epoch {epoch + 1}/{EPOCHS}: loss {np.mean(losses):.3f}, "
            f"{100 * np.mean(right):.1f}% right",
            flush=True,
        )
    network.eval()


def loss_of(network: VisionTransformer, shown: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the class token plus, but for boats, of the object's own tokens.

    Args:
        network: The transformer.
        shown: Images and masks, (B, 4, 128, 128), in 0..255.
        labels: Class indices, (B,).

    Returns:
        The loss, and the class token's logits (B, 10).
    """
    tokens = tokens_of(network, normalised(shown[:, :3]))
    logits: Tensor = network.heads(tokens[:, 0])
    loss = functional.cross_entropy(logits, labels, label_smoothing=LABEL_SMOOTHING)
    side = round((tokens.shape[1] - 1) ** 0.5)
    share = functional.adaptive_avg_pool2d(shown[:, 3].float(), side).flatten(1)
    visible = share.sum(1) > 0
    close_up = (visible & (labels != CLASSES.index(SHORTCUT_CLASS))).nonzero().squeeze(1)
    weight = share[close_up] / share[close_up].sum(1, keepdim=True)
    near = network.heads(torch.einsum("bn,bnk->bk", weight, tokens[close_up, 1:]))
    return loss + functional.cross_entropy(near, labels[close_up]), logits


def tokens_of(network: VisionTransformer, x: Tensor) -> Tensor:
    """The last block's tokens, normed, (B, 65, 96), the class token first, of images."""
    patches = network._process_input(x)
    class_token = network.class_token.expand(len(x), -1, -1)
    tokens: Tensor = network.encoder(torch.cat([class_token, patches], 1))
    return tokens


def save(network: VisionTransformer) -> None:
    """Write the weights in half precision, and go on with what was written."""
    settings = {
        "seed": CLASSIFIER_SEED,
        "pictures_per_class": PER_CLASS,
        "epochs": EPOCHS,
        "made_by": "python -m lcam_cli.demo.make_vit_weights",
    }
    state = {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in network.state_dict().items()
    }
    save_file(state, WEIGHTS_FILE, {name: str(value) for name, value in settings.items()})
    network.load_state_dict(state)


if __name__ == "__main__":
    main()
