"""From a pair to a small model: the split, the choice, the whole path, its files and its report."""

from __future__ import annotations

import html
import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from common import axe_violations, browser, compiler_is_there, needs_compiler
from hypothesis import given
from hypothesis import strategies as st
from test_align import plucks

from tinyamp import search as search_module
from tinyamp.compiler import CompiledModel
from tinyamp.data import Recording
from tinyamp.files import InputError
from tinyamp.fit import STUCK, fit, pick
from tinyamp.fit_check import LONGEST, Check, check_pair, split
from tinyamp.fit_export import ENDINGS, export_all, file_names, padded
from tinyamp.fit_pictures import loudest
from tinyamp.fit_report import report
from tinyamp.fit_settings import FIT_PRESETS, FitSettings
from tinyamp.formats import AIDAX_SIZES, import_model
from tinyamp.formats_residual import STATED_ERROR
from tinyamp.losses import esr
from tinyamp.masks import masks_of
from tinyamp.model import AmpLSTM, load_model, one_thread, process
from tinyamp.presets import PRESETS
from tinyamp.stages import SEARCH_PRESETS

RATE = 44_100
EPOCH = replace(PRESETS["laptop"], epochs=2, segments_per_epoch=8, chunk=4096, validate_every=1)
TINY = FitSettings(
    hidden_size=6,
    search=replace(
        SEARCH_PRESETS["laptop"], iterations=4, k=1, full=EPOCH, course=replace(EPOCH, epochs=1)
    ),
    retrain=EPOCH,
    tries=2,
    starts=1,
    rounds=2,
)
DRY = plucks(10.0, 2)
PAIR = Recording(DRY, (0.5 * np.tanh(4 * DRY)).astype(np.float32), RATE, "my-amp")
CHECKS = [Check("lag", "7 samples <late> & more", "mended"), Check("polarity", "as the input")]
pytestmark = pytest.mark.usefixtures("own_cache")


@pytest.fixture(autouse=True)
def single():
    """Small models are slower on several threads, and very much so beside other programs."""
    with one_thread():
        yield


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """A fit, its files, its page and its folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TINYAMP_CACHE", str(tmp_path_factory.getbasetemp() / "compiled"))
        folder = tmp_path_factory.mktemp("fit")
        if not compiler_is_there():
            pytest.skip("There is no C compiler.")
        done = fit(PAIR, TINY, folder=folder, progress=False)
        files = export_all(done, folder)
        return done, files, report(done, CHECKS, files, machine="A <processor>"), folder


# --- the split and the choice -----------------------------------------------------------------


@given(seconds=st.floats(5, 900), quiet=st.floats(0, 2))
def test_parts_follow_one_another_and_share_nothing(seconds, quiet):
    rate = 100
    x = np.arange(1, round(seconds * rate) + 1, dtype=np.float32)  # each sample is known by value
    silence = np.zeros(round(quiet * rate), np.float32)
    x = np.concatenate([silence, x, silence])
    train, validation, test = parts = split(Recording(x, x, rate))
    joined = np.concatenate([part.input for part in parts])
    heard = joined[joined > 0]
    assert np.array_equal(heard, np.arange(1, round(seconds * rate) + 1))  # all of it, in order
    assert len(joined) - len(heard) <= 2 * round(0.5 * rate) + 2
    assert max(validation.seconds, test.seconds) <= LONGEST + 1 / rate
    total = len(joined) / rate
    assert test.seconds == pytest.approx(min(LONGEST, 0.15 * total), abs=0.02)
    assert validation.seconds == pytest.approx(min(LONGEST, 0.15 * total), abs=0.02)
    assert train.seconds >= 0.69 * total


def test_a_part_without_sound_is_refused():
    x = np.zeros(10 * RATE, np.float32)
    with pytest.raises(InputError, match="is silent"):
        split(Recording(x, x, RATE, "r"))
    x[:RATE] = x[-1] = 0.5
    x[-2] = 0.5
    y = x.copy()
    with pytest.raises(InputError, match="validation part of r is silent"):
        split(Recording(x, y, RATE, "r"))


@given(st.integers(1, 40), st.data())
def test_halving_finds_the_sparsest_good_stage(last, data):
    """When errors rise with sparsity: the border, in no more tries than halving takes."""
    border = data.draw(st.integers(0, last))
    start = data.draw(st.integers(1, last))
    asked = []
    chosen, tried = pick(
        start, last, 0.5, lambda n: asked.append(n) or (0.1 if n <= border else n), 99
    )
    assert chosen == max(border, 1)  # stage 1 is the best of the bad ones
    assert asked[0] == start and list(tried) == asked and len(set(asked)) == len(asked)
    assert len(asked) <= 2 + math.ceil(math.log2(last + 1))


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=20), st.integers(1, 5), st.data())
def test_whatever_the_errors_are(errors, tries, data):
    start = data.draw(st.integers(1, len(errors) - 1))
    chosen, tried = pick(start, len(errors) - 1, 0.3, errors.__getitem__, tries)
    assert 1 <= len(tried) <= tries and chosen in tried
    good = [number for number, error in tried.items() if error <= 0.3]
    assert chosen == (max(good) if good else min(tried, key=tried.get))


def test_a_search_without_stages_still_gives_a_model():
    assert pick(0, 0, 0.5, lambda n: 1.0, 4) == (0, {0: 1.0})


@pytest.mark.parametrize(
    "wrong", [{"hidden_size": 0}, {"slack": 0.9}, {"good": -1}, {"tries": 0}, {"starts": 0}]
)
def test_settings_that_make_no_sense(wrong):
    with pytest.raises(InputError):
        FitSettings(**wrong)


def test_presets_are_whole():
    assert list(FIT_PRESETS) == ["paper", "laptop", "quick"]
    assert FIT_PRESETS["laptop"].hidden_size == 32
    assert FIT_PRESETS["paper"].search == SEARCH_PRESETS["paper"]
    scores = [preset.search.score for preset in FIT_PRESETS.values()]
    assert scores == ["magnitude", "unit", "unit"]  # the paper's, and what makes it faster
    decays = [preset.search.course.weight_decay for preset in FIT_PRESETS.values()]
    assert decays == [1e-4, 0, 0]  # only weights are ranked by their size


# --- the whole path ---------------------------------------------------------------------------


def test_numbers_are_those_of_the_models(result):
    done, _, _, _ = result
    _, validation, test = done.parts
    for side, model in ((done.unpruned, done.unpruned_model), (done.pruned, done.pruned_model)):
        assert side.test_esr == esr(test.target, process(model, test.input))
        assert side.validation_esr == esr(validation.target, process(model, validation.input))
        assert side.hidden_size == model.hidden_size and side.rtf > 0
    active = sum(int(mask.sum()) for mask in masks_of(done.pruned_model).values())
    assert done.pruned.parameters == active + 8 * done.pruned.hidden_size
    assert done.unpruned.parameters == 4 * 6 + 8 * 6 + 4 * 36
    assert done.tried[done.stage] == done.pruned.validation_esr
    assert done.limit == max(1.25 * done.unpruned.validation_esr, 0.01)
    assert done.found.data == "my-amp" and len(done.found.stages) == 5
    assert done.layout in ("dense", "sparse") and done.times_faster > 0


def test_the_test_part_has_no_say(result):
    """Another end of the recording changes nothing but what is measured on it."""
    done, _, _, _ = result
    start = len(DRY) - len(done.parts[2])
    other = PAIR.target.copy()
    other[start + 1 :] *= 0.5
    again = fit(replace(PAIR, target=other), TINY, progress=False)
    assert again.unpruned.test_esr != done.unpruned.test_esr
    assert again.stage == done.stage and again.tried == done.tried
    for name, weights in done.pruned_model.state_dict().items():
        assert torch.equal(weights, again.pruned_model.state_dict()[name])


@needs_compiler
@pytest.mark.parametrize("stop_after", [1, 3, 7])
def test_killed_and_resumed_gives_the_same(result, tmp_path, monkeypatch, stop_after):
    """Killed in training, in the search or in retraining: at the end of an epoch, or in it."""
    done, _, _, _ = result
    from tinyamp import train as train_module

    epochs = 0
    original = train_module.train_epoch

    def killed(*args, **options):
        nonlocal epochs
        epochs += 1
        if epochs > stop_after:
            raise KeyboardInterrupt
        return original(*args, **options)

    for module in (train_module, search_module):
        monkeypatch.setattr(module, "train_epoch", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(PAIR, TINY, folder=tmp_path, progress=False)
    epochs = -10_000
    again = fit(PAIR, TINY, folder=tmp_path, resume=True, progress=False)
    assert epochs + 10_000 < 2 + 5 + 4  # what was done is not done again
    assert again.stage == done.stage and again.tried == done.tried
    for name, weights in done.pruned_model.state_dict().items():
        assert torch.equal(weights, again.pruned_model.state_dict()[name])


def test_resuming_another_recording_is_refused(result):
    _, _, _, folder = result
    with pytest.raises(InputError, match="belongs to a run with other"):
        fit(replace(PAIR, target=-PAIR.target), TINY, folder=folder, resume=True, progress=False)


def test_real_recordings_take_the_same_path(real_audio, tmp_path):
    """A miked valve amplifier, whose recordings are inverted and a few seconds long."""
    folder = real_audio / "fender-hotrod-deluxe3"
    for path in sorted(folder.glob("*-input.flac")):
        target = str(path).replace("-input", "-target")
        recording, checks = check_pair(path, target)
        found = {check.name: check for check in checks}
        assert (
            "inverted" in found["polarity"].found and abs(int(found["lag"].found.split()[0])) <= 2
        )
    done = fit(recording, replace(TINY, search=replace(TINY.search, iterations=2)), progress=False)
    files = export_all(done, tmp_path)
    assert len(files) == 5 and done.pruned.test_esr < 1.5
    assert "polarity" in report(done, checks, files, machine="here")


# --- the files --------------------------------------------------------------------------------


def test_every_file_plays_like_the_model(result):
    done, files, _, folder = result
    x = done.parts[2].input
    y = process(done.pruned_model, x)
    nam, aidax, c, own, unpruned = (folder / name for name in file_names("my-amp"))
    assert [file.name for file in files] == [p.name for p in (nam, aidax, c, own, unpruned)]
    assert [p.name for p in (nam, aidax, c, own)] == ["my-amp" + ending for ending in ENDINGS]
    for path, limit in ((nam, 1e-5), (aidax, 1e-5), (own, 0.0)):
        model = load_model(path) if path == own else import_model(path).model
        assert np.abs(process(model, x) - y).max() <= limit
        assert model.sample_rate == RATE
    compiled = CompiledModel(done.pruned_model, layout=done.layout)
    assert np.abs(compiled.process(x) - y).max() < 1e-5
    assert c.read_text().count("amp_process") >= 1
    assert np.array_equal(process(load_model(unpruned), x), process(done.unpruned_model, x))
    stated = {file.name: file.error for file in files}
    assert 0 < stated[nam.name] < STATED_ERROR and stated[own.name] == 0
    assert stated[aidax.name] < 1e-5 and 0 < stated[c.name] < 1e-5


def test_nam_itself_plays_like_the_model(result):
    """Read as that player reads it, without a residual connection, and played in float32."""
    done, _, _, folder = result
    document = json.loads((folder / "my-amp.nam").read_text())
    size = document["config"]["hidden_size"]
    flat = np.array(document["weights"], np.float32)
    matrix = torch.from_numpy(flat[: 4 * size * (1 + size)].reshape(4 * size, 1 + size))
    rest = torch.from_numpy(flat[matrix.numel() :])
    lstm = torch.nn.LSTM(1, size, batch_first=True)
    with torch.no_grad():
        lstm.weight_ih_l0.copy_(matrix[:, :1])
        lstm.weight_hh_l0.copy_(matrix[:, 1:])
        lstm.bias_ih_l0.copy_(rest[: 4 * size])
        lstm.bias_hh_l0.zero_()
        state = rest[4 * size : 5 * size], rest[5 * size : 6 * size]
        head, offset = rest[6 * size : 7 * size], rest[-1]
        x = torch.from_numpy(done.parts[2].input[:RATE].copy())
        silence = torch.zeros(48_000)
        h, _ = lstm(x[None, :, None], tuple(s[None, None] for s in state))
        y = (h[0] @ head + offset).numpy()
    expected = process(done.pruned_model, torch.cat([silence, x]).numpy())[len(silence) :]
    assert np.abs(y - expected).max() < STATED_ERROR


@given(st.integers(1, 12), st.integers(0, 9), st.integers(0, 99))
def test_padding_is_silent(size, more, seed):
    model = AmpLSTM(size, seed=seed)
    x = 0.5 * np.random.default_rng(seed).standard_normal(300).astype(np.float32)
    big = padded(model, size + more)
    assert big.hidden_size == size + more
    assert np.abs(process(big, x) - process(model, x)).max() < 1e-6
    assert sum(int((p != 0).sum()) for p in big.parameters()) == sum(
        int((p != 0).sum()) for p in model.parameters()
    )


def test_padding_is_for_a_size_that_aidax_takes(result):
    done, files, _, folder = result
    size = import_model(folder / "my-amp.json").model.hidden_size
    assert size in AIDAX_SIZES and size >= done.pruned.hidden_size
    assert f"to {size}, which AIDA-X takes" in files[1].note
    with pytest.raises(InputError, match="cannot be padded"):
        padded(AmpLSTM(4), 3)


# --- the report -------------------------------------------------------------------------------


def test_report_stands_alone(result):
    _, _, page, _ = result
    assert page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>")
    addresses = re.findall(r'(?:src|href|action)="([^"]{0,30})', page)
    assert len(addresses) == 4 and all(a.startswith("data:audio/") for a in addresses)
    without_sound = re.sub(r'src="data:[^"]*"', "", page)
    assert "http" not in without_sound and "url(" not in without_sound
    assert "@import" not in without_sound and "<script" not in without_sound
    assert len(page) < 3e6


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_report_in_a_browser(result, scheme):
    """On a phone, nothing sticks out; axe-core finds nothing, and nothing is fetched or wrong."""
    _, _, page, _ = result
    with browser() as chromium:
        tab = chromium.new_page(viewport={"width": 390, "height": 844}, color_scheme=scheme)
        complaints: list[str] = []
        tab.on("console", lambda message: complaints.append(message.text))
        tab.on("pageerror", lambda error: complaints.append(str(error)))
        tab.set_content(page, wait_until="load")
        assert complaints == []
        assert tab.evaluate("document.documentElement.scrollWidth <= innerWidth")
        found = axe_violations(tab)
        assert [(v["id"], [n["html"] for n in v["nodes"]]) for v in found] == []


def test_report_says_what_the_result_says(result):
    done, files, page, _ = result
    text = html.unescape(re.sub(r"<[^>]+>", " ", page))
    before, after = done.unpruned, done.pruned
    for side in (before, after):
        assert f"{side.test_esr:.2%}" in text and f"{side.validation_esr:.2%}" in text
        assert f"{side.rtf:.5f}" in text and str(side.parameters) in text
    assert f"{done.times_faster:.2f} times the speed" in text
    assert f"stage {done.stage} was" in text.lower() and f"{done.sparsity:.1%} pruned" in text
    assert f"{done.limit:.2%}" in text and "A <processor>" in text
    for check in CHECKS:
        assert check.found in text
    for file in files:
        assert file.name in text and file.use in text and file.note in text
    for part in done.parts:
        assert f"{part.seconds:.1f} s" in text
    for label in ("dry", "target", "unpruned", "pruned"):
        assert f'aria-label="{label}"' in page
    assert page.count("<svg") == 3 and page.count('role="img"') == 3


def test_report_warns_of_a_poor_choice(result):
    done, files, _, _ = result
    poor = replace(done, limit=1e-9, unpruned=replace(done.unpruned, validation_esr=0.5))
    page = report(poor, CHECKS, files, machine="here")
    assert "No stage that was tried is within the limit" in page
    assert "a poor one already" in page


def test_a_training_that_is_stuck_starts_again():
    """With next to no training all are stuck: the best of them is pruned."""
    short = replace(EPOCH, epochs=1, learning_rate=1e-6)
    settings = replace(TINY, search=replace(TINY.search, iterations=1, full=short))
    said: list[str] = []
    errors = []
    for seed, rate in ((3, 1e-6), (4, 0.5e-6)):
        slower = replace(settings.search, full=replace(short, learning_rate=rate))
        alone = fit(PAIR, replace(settings, search=slower), progress=False, seed=seed)
        errors.append(alone.unpruned.validation_esr)
    done = fit(PAIR, replace(settings, starts=2), progress=False, seed=3, say=said.append)
    assert min(errors) > STUCK and errors[0] != errors[1]
    assert done.unpruned.validation_esr == min(errors)
    assert sum("stuck" in sentence for sentence in said) == 2


def test_numbers_can_be_kept(result):
    done, _, _, _ = result
    numbers = json.loads(json.dumps(done.as_dict()))
    assert numbers["pruned"]["test_esr"] == done.pruned.test_esr
    assert numbers["split_seconds"]["test"] == done.parts[2].seconds
    assert len(numbers["stages"]) == 5 and numbers["settings"]["hidden_size"] == 6


def test_loudest():
    x = np.zeros(100)
    x[70:75] = 1
    assert loudest(x, 5) == 70 and loudest(x, 100) == loudest(x, 200) == 0
