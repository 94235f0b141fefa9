"""Vanishing and exploding gradients: norms of products of Jacobians between their bounds."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="Vanishing and exploding")

with app.setup:
    from functools import partial

    import marimo as mo
    import numpy as np

    import tinygrad_rnn as tg
    from tinygrad_rnn.experiments.clipping import RULES, cosine, flat
    from tinygrad_rnn.experiments.experiment import plain, svg
    from tinygrad_rnn.experiments.vanishing import between_bounds, panel


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # Vanishing and exploding

    What the loss at step $T$ tells the state $s_t$ goes through every step between them:

    $$\frac{\partial s_T}{\partial s_t} = J_T J_{T-1} \cdots J_{t+1}, \qquad
    J_k = \frac{\partial s_k}{\partial s_{k-1}}.$$

    $s$ is the whole state: $h$, or $(h, c)$ of the LSTM. Every block of $W_h$ is *gain* times an
    orthogonal matrix, so that its norm is the gain. The *bias* belongs to the gate that decides how
    much is kept: a share $\sigma(\text{bias})$ per step. The RNN has no such gate.
    """)
    return


@app.cell
def _network():
    _H = 8
    _cells = {
        "RNN, tanh": tg.RNNCell(1, _H),
        "RNN, linear": tg.RNNCell(1, _H, "identity"),
        "GRU": tg.GRUCell(1, _H),
        "LSTM": tg.LSTMCell(1, _H),
    }
    cell = mo.ui.dropdown(_cells, value="RNN, tanh", label="cell")
    gain = mo.ui.slider(0.1, 3.0, 0.1, value=1.0, label=r"gain $\|W_h\|$", show_value=True)
    bias = mo.ui.slider(-2.0, 8.0, 0.5, value=1.0, label="bias of the gate", show_value=True)
    steps = mo.ui.slider(5, 100, 5, value=40, label="steps $T$", show_value=True)
    seed = mo.ui.slider(0, 9, 1, value=0, label="seed", show_value=True)
    mo.hstack([cell, gain, bias, steps, seed], wrap=True, justify="start", gap=2)
    return bias, cell, gain, seed, steps


@app.cell
def _(bias, cell, gain, seed, steps):
    T = steps.value
    rng = np.random.default_rng(seed.value)
    draw_W = partial(tg.init.orthogonal, gain=gain.value)
    params = tg.init.redraw(cell.value, cell.value.init(rng), rng, W_h=draw_W)
    if not isinstance(cell.value, tg.RNNCell):
        params = tg.init.forget_bias(cell.value, params, bias.value)
    x = rng.normal(size=(T, 1))
    return T, params, x


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Between bounds

    The norm of a product is at most the product of the norms, and at least that of the smallest
    singular values. In natural logarithms, and certain with all rounding included:

    $$\sum_k \log \sigma_{\min}(J_k) \;\le\; \log \Bigl\|\frac{\partial s_T}{\partial s_t}\Bigr\|_2
    \;\le\; \underbrace{\sum_k \log \sigma_{\max}(J_k)}_{\text{local}}
    \;\le\; \underbrace{(T - t) \log \bigl(\sup |f'| \, \|W_h\|\bigr)}_{\text{global}}.$$

    The local bound knows the states of this run; the global one holds for all inputs. (It is
    written for the RNN; gated cells have a product of growth matrices instead.) The straight line
    falls or climbs by the largest Lyapunov exponent $\lambda_1$ per step: the mean growth of a
    direction that is carried along.
    """)
    return


@app.cell
def _(T, cell, params, x):
    t = list(range(T))
    bounds = between_bounds(cell.value, params, x, t)

    def draw_bounds(figure):
        axes = figure.subplots()
        lowest = min(-1.0, *(v for v in bounds["log_norm"] if np.isfinite(v)))
        highest = max(1.0, max(bounds["log_norm"]), T * bounds["lyapunov"])
        panel(axes, plain(bounds), T, t, floor=2 * lowest)
        axes.set(xlabel="step t", ylabel="log of a norm", xlim=(0, T))
        axes.set_ylim(1.3 * lowest - 0.3 * highest, 1.3 * highest - 0.3 * lowest)
        figure.legend(loc="outside upper center", ncols=5)

    mo.vstack(
        [
            mo.Html(svg(draw_bounds, size=(7.5, 4.0))),
            mo.md(
                f"From $t = 0$ to $T = {T}$ the logarithm is **{bounds['log_norm'][0]:.4g}**, at "
                f"least {bounds['lower'][0]:.4g}, at most {bounds['upper'][0]:.4g} (local) and "
                f"{bounds['upper_global'][0]:.4g} (global); "
                f"$\\lambda_1 = {bounds['lyapunov']:.4g}$."
            ),
        ]
    )
    return bounds, t


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## All pairs of steps

    $\log \|\partial s_t/\partial s_i\|_2$ for every $i \le t$: blue has faded, yellow has grown.
    On the diagonal stands the identity; above it is the future, which has no influence. The bottom
    row is the curve above.
    """)
    return


@app.cell
def _(T, cell, params, x):
    pairs = tg.jacobian_chain(cell.value, params, x, norm=2).all_pairs()

    def draw_pairs(figure):
        axes = figure.subplots()
        axes.grid(False)
        reach = min(20.0, np.abs(pairs[np.isfinite(pairs)]).max() + 0.1)
        image = axes.imshow(np.where(np.tri(T + 1), pairs, np.nan), vmin=-reach, vmax=reach)
        axes.set(xlabel="step i", ylabel="step t")
        figure.colorbar(image, ax=axes, label="log ‖∂s_t/∂s_i‖", extend="both")

    mo.Html(svg(draw_pairs, size=(5.5, 4.2)))
    return (pairs,)


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Clipping

    A gradient that has exploded is shortened to the length $\theta$. That mends the length of a
    step, not what has vanished in it. Here $L$ is the sum over $h_T$.
    """)
    return


@app.cell
def _threshold():
    _label = r"threshold $\log_{10} \theta$"
    threshold = mo.ui.slider(-3.0, 3.0, 0.25, value=0.0, label=_label, show_value=True)
    mo.hstack([threshold])
    return (threshold,)


@app.cell
def _(T, cell, params, threshold, x):
    d_outputs = np.zeros((T, cell.value.H))
    d_outputs[-1] = 1.0
    _all = tg.bptt(cell.value, params, x, d_outputs)
    gradients = {name: _all[name] for name in params}
    θ = 10.0**threshold.value
    clipped = {rule: clip(gradients, θ) for rule, clip in RULES.items()}
    _rows = [
        f"| {rule} | {tg.global_norm(g):.4g} | {cosine(flat(gradients), flat(g)):.4f} |"
        for rule, g in {"none": gradients, **clipped}.items()
    ]
    mo.md("\n".join(["| clipping | length | cosine to the gradient |", "|:-|-:|-:|", *_rows]))
    return clipped, gradients, θ


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Try

    1. **Linear, then tanh.** Linear with gain 0.9, 1.0, 1.1: all curves coincide and are straight,
       with slope $\log \text{gain}$. Tanh with gain 1.1: the global bound climbs from right to
       left, the norm falls. It explodes with gain 2, and less with 3, where tanh saturates: a large
       matrix is necessary and not sufficient (B-6).
    2. **The bias is the memory.** LSTM, gain 0.5, bias 0, 2, 4, 6: the curve flattens, for about
       $\sigma(\text{bias})$ is kept per step (G-7). The GRU does the same with the bias of its one
       gate. Then set the LSTM's gain to 3: $\lambda_1$ becomes positive. The carousel does not stop
       gradients from exploding.
    3. **Clipping.** Linear, gain 1.5, $\theta = 1$. By norm, the length becomes $\theta$ and the
       cosine stays 1: the direction is kept. The notes' one-sided rule promises neither (K-4).
    """)
    return


if __name__ == "__main__":
    app.run()
