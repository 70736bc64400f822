"""RecTools' `fast_transformers`: FlatSASRecNet on its own prebuilt sequences. The package has no loop for this network:
here it is the shortest one, AdamW and the cross-entropy of its logits among all items.

Its blocks have a feed-forward width of four times the embedding's.
"""

from peer_timing import Clock, give, read_histories, read_request

request = read_request()

import numpy as np  # noqa: E402
import torch  # noqa: E402
from rectools.fast_transformers import FlatSASRecNet, SequenceBatchDataset, build_sequences  # noqa: E402


def main() -> None:
    torch.set_num_threads(request["threads"])
    torch.manual_seed(request["seed"])
    histories = [history[:-2] for history in read_histories(request)]
    lengths_U = [len(history) for history in histories]
    users_N, items_N, places_N = (
        torch.from_numpy(column)
        for column in (
            np.repeat(np.arange(len(histories)), lengths_U),
            np.concatenate(histories),
            np.concatenate([np.arange(length) for length in lengths_U]),
        )
    )
    x_UL, y_UL, found_V, _ = build_sequences(users_N, items_N, places_N, request["max_length"])
    loader = torch.utils.data.DataLoader(
        SequenceBatchDataset(x_UL, y_UL), batch_size=request["batch_size"], shuffle=True
    )
    network = FlatSASRecNet(
        len(found_V),
        request["embed_dim"],
        request["blocks"],
        request["heads"],
        request["max_length"],
        request["dropout"],
    )
    optimizer, clock = torch.optim.AdamW(network.parameters(), lr=1e-3), Clock(request)
    while not clock.done:
        for batch in loader:
            logits_BLV = network(batch)
            loss = torch.nn.functional.cross_entropy(
                logits_BLV.flatten(0, 1), batch["y"].flatten() - 1, ignore_index=-1
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            clock.step(int(torch.count_nonzero(batch["y"])), len(batch["y"]))
            if clock.done:
                break
    train = clock.answer("a plain loop over FlatSASRecNet's logits of all items, real targets of timed steps")
    shape = f"FlatSASRecNet, ffn_dim={4 * request['embed_dim']}, {request['heads']} heads"
    give(request, request["peer"], "rectools", shape, train=train)


if __name__ == "__main__":
    main()
