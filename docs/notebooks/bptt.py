"""BPTT by hand: the sum over k of the lecture notes, every term with its numbers."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="BPTT by hand")

with app.setup:
    import marimo as mo
    import numpy as np

    import tinygrad_rnn as tg
    from tinygrad_rnn.experiments.experiment import svg


@app.function
def tex(array):
    """Write a number, or a vector or matrix, in LaTeX, to three digits."""
    array = np.atleast_2d(array)
    if array.size > 1:
        rows = r" \\ ".join(" & ".join(map(tex, row)) for row in array)
        return rf"\begin{{pmatrix}} {rows} \end{{pmatrix}}"
    mantissa, _, exponent = f"{array.item():.3g}".partition("e")
    return mantissa + (rf"\cdot 10^{{{int(exponent)}}}" if exponent else "")


@app.function
def product(factors):
    """Write a product in LaTeX, negative numbers in brackets."""
    return r" \cdot ".join(f"({a})" if a.startswith("-") else a for a in map(tex, factors))


@app.function
def aligned(rows):
    """Write equations below each other in LaTeX."""
    return r"$$\begin{aligned} " + r" \\ ".join(rows) + r" \end{aligned}$$"


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # BPTT by hand

    A tanh network of one or two units, $h_t = \tanh(x_t W_x + h_{t-1} W_h)$, reads $T$ numbers. The
    loss $L$ is the sum of the units after step $s$, so that $\delta = \partial L/\partial h_s$
    holds ones. $W_h$ took part in every step up to $s$, and paths add:

    $$\frac{\partial L}{\partial W_h} = \sum_{k=1}^{s} \delta \; J_s J_{s-1} \cdots J_{k+1} \;
    \frac{\partial^+ h_k}{\partial W_h}, \qquad J_t = \frac{\partial h_t}{\partial h_{t-1}} =
    \operatorname{diag}(1 - h_t^2)\, W_h^\top.$$

    $\partial^+$ is the immediate derivative: $h_{k-1}$ is held fixed.
    """)
    return


@app.cell
def _network():
    units = mo.ui.slider(1, 2, 1, value=1, label="units", show_value=True)
    steps = mo.ui.slider(2, 8, 1, value=5, label="steps $T$", show_value=True)
    weight = mo.ui.slider(-3.0, 3.0, 0.1, value=0.9, label="$w_h$", show_value=True)
    mo.hstack([units, steps, weight], wrap=True, justify="start", gap=2)
    return steps, units, weight


@app.cell
def _window(steps):
    _T = steps.value
    position = mo.ui.slider(1, _T, 1, value=_T, label="loss at step $s$", show_value=True)
    window = mo.ui.slider(1, _T, 1, value=_T, label="truncation window", show_value=True)
    mo.hstack([position, window], wrap=True, justify="start", gap=2)
    return position, window


@app.cell
def _(steps, units, weight):
    T, H = steps.value, units.value
    cell = tg.RNNCell(D=1, H=H)
    direction = np.ones((1, 1)) if H == 1 else tg.init.orthogonal(0, (2, 2))
    W_x = np.array([[1.0, -0.5]])[:, :H]
    params = {"W_x": W_x, "W_h": weight.value * direction, "b": np.zeros(H)}
    x = np.random.default_rng(1).normal(size=(T, 1))
    h = tg.unroll(cell, params, x).states[0]  # h_0, …, h_T
    J = cell.jacobian(params, x, (h[:-1],))  # J_1, …, J_T
    mo.md(rf"""
    ## Forward

    The states and the step Jacobians, with $W_x = {tex(W_x)}$, $W_h = {tex(params["W_h"])}$ and
    $h_0 = {tex(h[0])}$:

    {aligned(rf"h_{t} &= {tex(h[t])} & J_{t} &= {tex(J[t - 1])}" for t in range(1, T + 1))}
    """)
    return H, J, T, cell, h, params, x


@app.cell
def _(H, J, T, cell, h, params, position, x):
    s = position.value
    d_outputs = np.zeros((T, H))
    d_outputs[s - 1] = δ = np.ones(H)
    lambdas, terms, _back, _adds = {}, {}, [], []
    for k in range(s, 0, -1):
        P = tg.jacobian_chain(cell, params, x[k:s], (h[k],))  # J_s ⋯ J_{k+1}
        lambdas[k] = δ @ np.ldexp(P.mantissa, P.exponent)
        local = cell.local(params, x[[k - 1]], (h[[k - 1]],), (lambdas[k][None],))
        terms[k] = local["W_h"]
        # Of two units a line starts from the λ above it, or it would be too long.
        _λ = [δ, *J[k:s][::-1]] if H == 1 or k == s else [lambdas[k + 1], J[k]]
        _back.append(rf"\lambda_{k} &= {product(_λ)}" + (f" = {tex(lambdas[k])}" if k < s else ""))
        _term = product([h[k - 1][:, None], local["b"]])
        _adds.append(rf"k = {k}: & \quad {_term} = {tex(terms[k])}")
    mo.md(rf"""
    ## Every term

    Read from step $s$ back. $\lambda_k = \delta J_s \cdots J_{{k+1}}$ is what the loss tells the
    state $h_k$, with one more Jacobian in every line:

    {aligned(_back)}

    Step $k$ then adds $\lambda_k\,\partial^+ h_k/\partial W_h$, which is $h_{{k-1}}^\top$ times
    $\lambda_k \circ (1 - h_k^2)$:

    {aligned(_adds)}
    """)
    return d_outputs, lambdas, s, terms


@app.cell
def _(cell, d_outputs, params, s, terms, x):
    def loss(params):
        return np.sum(tg.unroll(cell, params, x).outputs[s - 1])

    total = sum(terms.values())
    by_bptt = tg.bptt(cell, params, x, d_outputs)["W_h"]
    by_grad = tg.grad(loss)(params)["W_h"]
    mo.md(f"""
    ## The sum

    `tg.bptt` carries $\\lambda$ back in one compiled loop and never writes a product of Jacobians
    down. `tg.grad` knows nothing of time: it records every operation and sweeps back. Three
    roads, one gradient, up to the last digits.

    | | ∂L/∂W_h |
    |:-|:-|
    | the sum of the terms | `{total.tolist()}` |
    | `tg.bptt` | `{by_bptt.tolist()}` |
    | `tg.grad` | `{by_grad.tolist()}` |
    """)
    return by_bptt, by_grad, total


@app.cell
def _(cell, d_outputs, params, s, terms, total, window, x):
    kept = [k for k in terms if s - k < window.value]
    kept_sum = sum(terms[k] for k in kept)
    truncated = tg.bptt(cell, params, x, d_outputs, truncate=window.value)["W_h"]
    mo.md(f"""
    ## Truncated

    Truncated BPTT goes back through at most {window.value} of the {s} steps: it keeps the terms
    with $s - k < {window.value}$ and drops {len(terms) - len(kept)}.

    - sum of the terms that are kept: ${tex(kept_sum)}$
    - `tg.bptt(…, truncate={window.value})`: ${tex(truncated)}$
    - what is missing: ${tex(total - kept_sum)}$
    """)
    return kept, kept_sum, truncated


@app.cell
def _(kept, terms):
    def draw(figure):
        axes = figure.subplots()
        sizes = {k: tg.global_norm(term) for k, term in terms.items()}
        axes.bar(list(sizes), list(sizes.values()), color="none", edgecolor="C1", label="cut off")
        axes.bar(kept, [sizes[k] for k in kept], color="C0", edgecolor="C0", label="kept")
        axes.set(xlabel="k", ylabel="size of the term", xticks=list(sizes))
        axes.legend()

    mo.Html(svg(draw, size=(5.5, 2.6)))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Try

    1. **The ends.** Term 1 is always zero: $W_h$ meets only $h_0 = 0$ in it. The last one, $k = s$,
       has no Jacobian in it and does not fade, whatever $w_h$ is (theorem V-2).
    2. **Saturated.** One unit, $T = 8$, $w_h = 3$. The weight is large, yet all factors from $J_2$
       on are below 0.4, for $1 - h_t^2$ is small where $h_t$ is near $\pm 1$.
    3. **Truncation.** One unit, $T = 5$, window 2. With $w_h = 0.3$ about 2 % is missing, the tail
       of a geometric series (theorem V-3); with 0.9 more is missing than the whole gradient.
    """)
    return


if __name__ == "__main__":
    app.run()
