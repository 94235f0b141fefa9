"""The engine: a line, its record, the backward sweep, and finite differences beside it."""

import marimo

__generated_with = "0.25.2"
app = marimo.App(width="medium", app_title="The engine")

with app.setup:
    import marimo as mo
    import numpy as np

    import tinygrad_rnn as tg
    from tinygrad_rnn.experiments.experiment import svg
    from tinygrad_rnn.scalars import Undecided


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    # The engine

    How does a machine differentiate a function that it has never seen? It runs the function once,
    takes notes, and walks the notes back. Here the function is a line and something after it,

    $$y = w\,x + b, \qquad L = f(y).$$

    Move a slider, and everything below is computed anew.
    """)
    return


@app.cell
def _function():
    _functions = {
        "2 y": lambda y: 2 * y,
        "y²": lambda y: y**2,
        "tanh y": np.tanh,
        "σ(y)": tg.sigmoid,
        "relu(y)": tg.relu,
        "y tanh y": lambda y: y * np.tanh(y),
    }
    w = mo.ui.slider(-3.0, 3.0, 0.25, value=0.5, label="$w$", show_value=True)
    x = mo.ui.slider(-3.0, 3.0, 0.25, value=2.0, label="$x$", show_value=True)
    b = mo.ui.slider(-3.0, 3.0, 0.25, value=-0.25, label="$b$", show_value=True)
    f = mo.ui.dropdown(_functions, value="y tanh y", label="$f(y) =$")
    mo.hstack([w, x, b, f], wrap=True, justify="start", gap=2)
    return b, f, w, x


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The record

    A `Tensor` is an array that remembers how it was computed. Each line below is one operation with
    its value; what it was computed from hangs under it. The engine knows nothing else. (Where
    Graphviz is installed, `tg.draw` also makes a picture.)
    """)
    return


@app.cell
def _(b, f, w, x):
    at = np.array([w.value, x.value, b.value])
    leaves = {name: tg.Tensor(value) for name, value in zip("wxb", at, strict=True)}
    y = leaves["w"] * leaves["x"] + leaves["b"]
    L = f.value(y)
    drawing = tg.draw(L, y=y, **leaves)
    mo.vstack([mo.plain_text(str(drawing)), mo.Html(drawing._repr_svg_() or "")])
    return L, at, leaves, y


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## The backward sweep

    The derivative $\partial L/\partial v$ of $L$ by a node $v$ is called its *cotangent*. That of
    $L$ is 1. From there each node $v$ passes on, to every $u$ that it was computed from, its
    cotangent times its own small derivative:

    $$\frac{\partial L}{\partial u} \mathrel{+}= \frac{\partial L}{\partial v} \cdot
    \frac{\partial v}{\partial u}.$$

    The product is a *vector–Jacobian product*; between numbers the Jacobian is one number. Where a
    node is used more than once, its terms add up.
    """)
    return


@app.cell
def _(L, leaves, y):
    told = tg.explain(L, y=y, **leaves)
    cotangent = {told.output: told.seed}
    _rows = ["| at | to | cotangent · ∂v/∂u | term | sum so far |", "|:-|:-|-:|-:|-:|"]
    for _step in told.steps:
        _v, _u = _step.node, _step.parent
        _product = f"{cotangent[_v]:.6g} · {_step.partial:.6g}"
        cotangent[_u] = _step.total
        _rows.append(
            f"| `{_v} = {told.expressions[_v]}` | `∂L/∂{_u}` | {_product} "
            f"| {_step.term:.6g} | {_step.total:.6g} |"
        )
    sweep = "\n".join(_rows)
    mo.vstack([mo.md(sweep), mo.accordion({"`print(tg.explain(L))`": mo.plain_text(str(told))})])
    return cotangent, sweep, told


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Is it right?

    Move one argument by $\varepsilon$ both ways and see what $L$ does. By Taylor's theorem the
    central difference is off by a multiple of $\varepsilon^2$; rounding adds about
    $2^{-53}\,|L|/\varepsilon$, so that a smaller step is not always better (theorem N-1).
    `tg.certify` needs no step: it computes with intervals that contain the exact gradient.
    """)
    return


@app.cell
def _step():
    digits = mo.ui.slider(1, 15, 1, value=5, label=r"$-\log_{10} \varepsilon$", show_value=True)
    mo.hstack([digits])
    return (digits,)


@app.cell
def _(at, digits, f):
    def loss(w, x, b):
        return f.value(w * x + b)

    def difference(ε):
        """Return the central differences by w, x and b."""
        sides = [(loss(*(at + ε * d)), loss(*(at - ε * d))) for d in np.eye(3)]
        return np.array([(ahead - behind) / (2 * ε) for ahead, behind in sides])

    gradient = np.array(tg.grad(loss, argnums=(0, 1, 2))(*at))
    differences = difference(10.0**-digits.value)
    try:
        exact = [ball.item() for ball in tg.certify(loss, list(at)).gradient]
        certain = [f"[{ball.lower:.17g}, {ball.upper:.17g}]" for ball in exact]
    except Undecided:
        exact, certain = None, ["there is a kink: no gradient exists"] * 3
    _lines = [
        f"| $\\partial L/\\partial {name}$ | {g:.12g} | {d:.12g} | {abs(d - g):.1e} | {c} |"
        for name, g, d, c in zip("wxb", gradient, differences, certain, strict=True)
    ]
    _head = ["| | `tg.grad` | difference | apart by | `tg.certify` |", "|:-|-:|-:|-:|-:|"]
    comparison = "\n".join([*_head, *_lines])
    mo.md(comparison)
    return difference, differences, exact, gradient, loss


@app.cell
def _(at, difference, digits, gradient, loss):
    def draw(figure):
        left, right = figure.subplots(1, 2)
        ws = np.linspace(-3, 3, 121)
        left.plot(ws, [loss(v, *at[1:]) for v in ws], label="L")
        left.axline((at[0], loss(*at)), slope=gradient[0], ls="--", color="C1", label="its tangent")
        left.plot(at[0], loss(*at), "o", color="C1")
        left.set(xlabel="w", title="L and its tangent")
        left.legend()
        steps = 10.0 ** -np.arange(1, 16)
        gaps = np.array([np.abs(difference(ε) - gradient)[0] for ε in steps])
        right.loglog(steps, np.where(gaps > 0, gaps, np.nan), "o-")  # zero has no logarithm
        right.axvline(10.0**-digits.value, color="C1", ls="--")
        right.set(xlabel="ε", ylim=(1e-17, 1e2), title="what the difference by w is off by")

    mo.Html(svg(draw, size=(8.5, 3.4)))
    return


@app.cell(hide_code=True)
def _():
    mo.md(r"""
    ## Try

    1. **Paths that meet.** With $f(y) = y \tanh y$ the node $y$ is used twice. Which row of the
       sweep shows a sum that differs from its term? Choose $\tanh y$: now none does.
    2. **A kink.** Choose relu, and $w, x, b$ so that $y = 0$. The sweep says 0, which is a
       convention. The difference by $b$ says 1/2, halfway between the slopes on both sides.
       `tg.certify` says that there is no gradient.
    3. **Where it is flat.** Choose $\tanh$ and $w = x = b = 3$. The gradient is tiny, and right to
       its last digits. No difference has more than five right, and from $\varepsilon = 10^{-8}$ on
       it is 0. To an absolute tolerance that is all the same; this library compares in relative
       terms.
    """)
    return


if __name__ == "__main__":
    app.run()
