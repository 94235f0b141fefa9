"""The literature that theorems name."""

from __future__ import annotations

import re
from dataclasses import dataclass

from .letters import latex

FORMULA = re.compile(r"S[0-4]-\d+")
OWN = "derived here"


@dataclass(frozen=True)
class Work:
    """A publication: its BibTeX key and kind, and its fields by their BibTeX names."""

    key: str
    kind: str
    author: str
    title: str
    year: int
    fields: dict[str, str]

    def bibtex(self) -> str:
        """Return the BibTeX entry."""
        return entry(
            self.kind,
            self.key,
            {
                "author": self.author.replace(", ", " and "),
                "title": f"{{{self.title}}}",  # keeps its capitals
                **self.fields,
                "year": str(self.year),
            },
        )

    def text(self) -> str:
        """Return the reference as a line of text."""
        where = [
            self.fields[name]
            for name in ("journal", "booktitle", "publisher", "school", "howpublished")
            if name in self.fields
        ]
        volume, number = self.fields.get("volume"), self.fields.get("number")
        if volume:
            where[-1] += f" {volume}" + (f"({number})" if number else "")
        pages = f", {self.fields['pages'].replace('--', '–')}" if "pages" in self.fields else ""
        doi = f" doi:{self.fields['doi']}" if "doi" in self.fields else ""
        title = self.title if self.title.endswith("?") else f"{self.title}."
        return f"{self.author} ({self.year}). {title} {', '.join(where)}{pages}.{doi}"


def entry(kind: str, key: str, fields: dict[str, str]) -> str:
    """Return a BibTeX entry in ASCII, of fields in plain letters."""
    inside = "".join(f"  {name} = {{{latex(value)}}},\n" for name, value in fields.items())
    return f"@{kind}{{{key},\n{inside}}}"


def _article(key: str, year: int, author: str, title: str, journal: str, **more: str) -> Work:
    return Work(key, "article", author, title, year, {"journal": journal, **more})


def _paper(key: str, year: int, author: str, title: str, booktitle: str, **more: str) -> Work:
    return Work(key, "inproceedings", author, title, year, {"booktitle": booktitle, **more})


def _book(key: str, year: int, author: str, title: str, publisher: str, **more: str) -> Work:
    return Work(key, "book", author, title, year, {"publisher": publisher, **more})


WORKS: dict[str, Work] = {
    "Albertini & Sontag 1993": _article(
        "albertini1993", 1993, "Francesca Albertini, Eduardo D. Sontag",
        "For neural networks, function determines form",
        "Neural Networks", volume="6", number="7", pages="975--990",
    ),
    "Arjovsky, Shah & Bengio 2016": _paper(
        "arjovsky2016", 2016, "Martin Arjovsky, Amar Shah, Yoshua Bengio",
        "Unitary evolution recurrent neural networks",
        "Proceedings of the 33rd International Conference on Machine Learning",
        series="Proceedings of Machine Learning Research", volume="48", pages="1120--1128",
    ),
    "Bengio, Simard & Frasconi 1994": _article(
        "bengio1994", 1994, "Yoshua Bengio, Patrice Simard, Paolo Frasconi",
        "Learning long-term dependencies with gradient descent is difficult",
        "IEEE Transactions on Neural Networks", volume="5", number="2", pages="157--166",
        doi="10.1109/72.279181",
    ),
    "Berger 1965": _article(
        "berger1965", 1965, "Charles A. Berger",
        "A strange dilation theorem",
        "Notices of the American Mathematical Society", volume="12", pages="590",
    ),
    "Bonassi, Farina & Scattolini 2021": _article(
        "bonassi2021", 2021, "Fabio Bonassi, Marcello Farina, Riccardo Scattolini",
        "On the stability properties of Gated Recurrent Units neural networks",
        "Systems & Control Letters", volume="157", pages="105049",
        doi="10.1016/j.sysconle.2021.105049",
    ),
    "Chen et al. 2016": Work(
        "chen2016", "misc", "Tianqi Chen, Bing Xu, Chiyuan Zhang, Carlos Guestrin",
        "Training deep nets with sublinear memory cost", 2016,
        {"howpublished": "arXiv:1604.06174"},
    ),
    "Chen, Pennington & Schoenholz 2018": _paper(
        "chen2018", 2018, "Minmin Chen, Jeffrey Pennington, Samuel S. Schoenholz",
        "Dynamical isometry and a mean field theory of RNNs: gating enables signal propagation "
        "in recurrent neural networks",
        "Proceedings of the 35th International Conference on Machine Learning",
        series="Proceedings of Machine Learning Research", volume="80", pages="873--882",
    ),
    "Cho et al. 2014": _paper(
        "cho2014", 2014,
        "Kyunghyun Cho, Bart van Merriënboer, Caglar Gulcehre, Dzmitry Bahdanau, "
        "Fethi Bougares, Holger Schwenk, Yoshua Bengio",
        "Learning phrase representations using RNN encoder–decoder for statistical machine "
        "translation",
        "Proceedings of the 2014 Conference on Empirical Methods in Natural Language Processing",
        pages="1724--1734", doi="10.3115/v1/D14-1179",
    ),
    "Clarke 1975": _article(
        "clarke1975", 1975, "Frank H. Clarke",
        "Generalized gradients and applications",
        "Transactions of the American Mathematical Society", volume="205", pages="247--262",
    ),
    "Engelken, Wolf & Abbott 2023": _article(
        "engelken2023", 2023, "Rainer Engelken, Fred Wolf, L. F. Abbott",
        "Lyapunov spectra of chaotic recurrent neural networks",
        "Physical Review Research", volume="5", number="4", pages="043044",
    ),
    "Euler 1748": _book(
        "euler1748", 1748, "Leonhard Euler",
        "Introductio in analysin infinitorum", "Marc-Michel Bousquet", address="Lausanne",
    ),
    "Gelfand 1941": _article(
        "gelfand1941", 1941, "Israel M. Gelfand",
        "Normierte Ringe", "Matematicheskii Sbornik", volume="9", number="1", pages="3--24",
    ),
    "Gers et al. 2000": _article(
        "gers2000forget", 2000, "Felix A. Gers, Jürgen Schmidhuber, Fred Cummins",
        "Learning to forget: continual prediction with LSTM",
        "Neural Computation", volume="12", number="10", pages="2451--2471",
    ),
    "Gers & Schmidhuber 2000": _paper(
        "gers2000time", 2000, "Felix A. Gers, Jürgen Schmidhuber",
        "Recurrent nets that time and count",
        "Proceedings of the IEEE-INNS-ENNS International Joint Conference on Neural Networks",
        volume="3", pages="189--194",
    ),
    "Glorot & Bengio 2010": _paper(
        "glorot2010", 2010, "Xavier Glorot, Yoshua Bengio",
        "Understanding the difficulty of training deep feedforward neural networks",
        "Proceedings of the 13th International Conference on Artificial Intelligence and "
        "Statistics",
        series="Proceedings of Machine Learning Research", volume="9", pages="249--256",
    ),
    "Golub & Van Loan 2013": _book(
        "golub2013", 2013, "Gene H. Golub, Charles F. Van Loan",
        "Matrix computations", "Johns Hopkins University Press", edition="fourth",
    ),
    "Griewank & Walther 2008": _book(
        "griewank2008", 2008, "Andreas Griewank, Andrea Walther",
        "Evaluating derivatives: principles and techniques of algorithmic differentiation",
        "SIAM", edition="second",
    ),
    "He, Zhang, Ren & Sun 2015": _paper(
        "he2015", 2015, "Kaiming He, Xiangyu Zhang, Shaoqing Ren, Jian Sun",
        "Delving deep into rectifiers: surpassing human-level performance on ImageNet "
        "classification",
        "Proceedings of the IEEE International Conference on Computer Vision", pages="1026--1034",
    ),
    "Henaff, Szlam & LeCun 2016": _paper(
        "henaff2016", 2016, "Mikael Henaff, Arthur Szlam, Yann LeCun",
        "Recurrent orthogonal networks and long-memory tasks",
        "Proceedings of the 33rd International Conference on Machine Learning",
        series="Proceedings of Machine Learning Research", volume="48", pages="2034--2042",
    ),
    "Higham 2002": _book(
        "higham2002", 2002, "Nicholas J. Higham",
        "Accuracy and stability of numerical algorithms", "SIAM", edition="second",
    ),
    "Hochreiter & Schmidhuber 1997": _article(
        "hochreiter1997", 1997, "Sepp Hochreiter, Jürgen Schmidhuber",
        "Long short-term memory",
        "Neural Computation", volume="9", number="8", pages="1735--1780",
        doi="10.1162/neco.1997.9.8.1735",
    ),
    "Hoeffding 1963": _article(
        "hoeffding1963", 1963, "Wassily Hoeffding",
        "Probability inequalities for sums of bounded random variables",
        "Journal of the American Statistical Association", volume="58", number="301",
        pages="13--30",
    ),
    "Horn & Johnson 1991": _book(
        "horn1991", 1991, "Roger A. Horn, Charles R. Johnson",
        "Topics in matrix analysis", "Cambridge University Press",
    ),
    "Horn & Johnson 2013": _book(
        "horn2013", 2013, "Roger A. Horn, Charles R. Johnson",
        "Matrix analysis", "Cambridge University Press", edition="second",
    ),
    "Johansson 2017": _article(
        "johansson2017", 2017, "Fredrik Johansson",
        "Arb: efficient arbitrary-precision midpoint-radius interval arithmetic",
        "IEEE Transactions on Computers", volume="66", number="8", pages="1281--1292",
    ),
    "Kreiss 1962": _article(
        "kreiss1962", 1962, "Heinz-Otto Kreiss",
        "Über die Stabilitätsdefinition für Differenzengleichungen die partielle "
        "Differentialgleichungen approximieren",
        "BIT", volume="2", pages="153--181",
    ),
    "Le, Jaitly & Hinton 2015": Work(
        "le2015", "misc", "Quoc V. Le, Navdeep Jaitly, Geoffrey E. Hinton",
        "A simple way to initialize recurrent networks of rectified linear units", 2015,
        {"howpublished": "arXiv:1504.00941"},
    ),
    "LeCun, Bottou, Orr & Müller 1998": Work(
        "lecun1998", "incollection",
        "Yann LeCun, Léon Bottou, Genevieve B. Orr, Klaus-Robert Müller",
        "Efficient BackProp", 1998,
        {
            "booktitle": "Neural Networks: Tricks of the Trade", "publisher": "Springer",
            "pages": "9--50",
        },
    ),
    "Lee, Park & Aiken 2023": _paper(
        "lee2023", 2023, "Wonyeol Lee, Sejun Park, Alex Aiken",
        "On the correctness of automatic differentiation for neural networks with "
        "machine-representable parameters",
        "Proceedings of the 40th International Conference on Machine Learning",
        series="Proceedings of Machine Learning Research", volume="202",
    ),
    "Miller & Hardt 2019": _paper(
        "miller2019", 2019, "John Miller, Moritz Hardt",
        "Stable recurrent models", "International Conference on Learning Representations",
    ),
    "Oseledets 1968": _article(
        "oseledets1968", 1968, "Valery I. Oseledets",
        "A multiplicative ergodic theorem: Lyapunov characteristic numbers for dynamical systems",
        "Transactions of the Moscow Mathematical Society", volume="19", pages="197--231",
    ),
    "Pascanu, Mikolov & Bengio 2013": _paper(
        "pascanu2013", 2013, "Razvan Pascanu, Tomas Mikolov, Yoshua Bengio",
        "On the difficulty of training recurrent neural networks",
        "Proceedings of the 30th International Conference on Machine Learning",
        series="Proceedings of Machine Learning Research", volume="28", number="3",
        pages="1310--1318",
    ),
    "Pearcy 1966": _article(
        "pearcy1966", 1966, "Carl Pearcy",
        "An elementary proof of the power inequality for the numerical radius",
        "Michigan Mathematical Journal", volume="13", number="3", pages="289--291",
    ),
    "Saxe, McClelland & Ganguli 2014": _paper(
        "saxe2014", 2014, "Andrew M. Saxe, James L. McClelland, Surya Ganguli",
        "Exact solutions to the nonlinear dynamics of learning in deep linear neural networks",
        "International Conference on Learning Representations",
    ),
    "Schur 1911": _article(
        "schur1911", 1911, "Issai Schur",
        "Bemerkungen zur Theorie der beschränkten Bilinearformen mit unendlich vielen "
        "Veränderlichen",
        "Journal für die reine und angewandte Mathematik", volume="140", pages="1--28",
    ),
    "Squire & Trapp 1998": _article(
        "squire1998", 1998, "William Squire, George Trapp",
        "Using complex variables to estimate derivatives of real functions",
        "SIAM Review", volume="40", number="1", pages="110--112",
    ),
    "Sterbenz 1974": _book(
        "sterbenz1974", 1974, "Pat H. Sterbenz", "Floating-point computation", "Prentice-Hall",
    ),
    "Sussmann 1992": _article(
        "sussmann1992", 1992, "Héctor J. Sussmann",
        "Uniqueness of the weights for minimal feedforward nets with a given input-output map",
        "Neural Networks", volume="5", number="4", pages="589--593",
    ),
    "Tallec & Ollivier 2018": _paper(
        "tallec2018", 2018, "Corentin Tallec, Yann Ollivier",
        "Can recurrent neural networks warp time?",
        "International Conference on Learning Representations",
    ),
    "Terzi et al. 2021": _article(
        "terzi2021", 2021,
        "Enrico Terzi, Fabio Bonassi, Marcello Farina, Riccardo Scattolini",
        "Learning model predictive control with long short-term memory networks",
        "International Journal of Robust and Nonlinear Control",
        volume="31", number="18", pages="8877--8896", doi="10.1002/rnc.5519",
    ),
    "Trefethen & Embree 2005": _book(
        "trefethen2005", 2005, "Lloyd N. Trefethen, Mark Embree",
        "Spectra and pseudospectra: the behavior of nonnormal matrices and operators",
        "Princeton University Press",
    ),
    "Williams & Peng 1990": _article(
        "williams1990", 1990, "Ronald J. Williams, Jing Peng",
        "An efficient gradient-based algorithm for on-line training of recurrent network "
        "trajectories",
        "Neural Computation", volume="2", number="4", pages="490--501",
    ),
    "Williams & Zipser 1989": _article(
        "williams1989", 1989, "Ronald J. Williams, David Zipser",
        "A learning algorithm for continually running fully recurrent neural networks",
        "Neural Computation", volume="1", number="2", pages="270--280",
    ),
    "Zhang et al. 2020": _paper(
        "zhang2020", 2020, "Jingzhao Zhang, Tianxing He, Suvrit Sra, Ali Jadbabaie",
        "Why gradient clipping accelerates training: a theoretical justification for adaptivity",
        "International Conference on Learning Representations",
    ),
    "Zucchet & Orvieto 2024": _paper(
        "zucchet2024", 2024, "Nicolas Zucchet, Antonio Orvieto",
        "Recurrent neural networks: vanishing and exploding gradients are not the end of the "
        "story",
        "Advances in Neural Information Processing Systems", volume="37",
    ),
}  # fmt: skip


def is_formula(source: str) -> bool:
    """Whether a source is a formula of the lecture notes."""
    return FORMULA.fullmatch(source) is not None


def named(source: str) -> list[str]:
    """Return the works that a source names: one, or those with which to compare our own proof."""
    return [name for name in WORKS if name in source]
