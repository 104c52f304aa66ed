from __future__ import annotations

import struct
import tempfile
import tracemalloc
import wave
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talkinghead.errors import MediaInvalid, MediaTooLarge
from talkinghead.media.sound import (
    Sound,
    Voice,
    loudest,
    probe_sound,
    save_mix,
    save_speech,
    save_stretch,
)
from tests.sounds import LAYOUTS, at_other_times, plain

Samples = npt.NDArray[np.float64]


def write_sound(path: Path, samples: npt.ArrayLike, rate: int, codec: str = "pcm_f32le") -> Path:
    """[channels, samples] of full scale 1.0 in a file of the codec."""
    planes = np.ascontiguousarray(samples, np.float32)
    with av.open(str(path), "w") as container:
        layout = LAYOUTS[len(planes)]
        stream = container.add_stream(codec, rate=rate, layout=layout)
        assert isinstance(stream, av.AudioStream)
        resampler = av.AudioResampler(stream.format.name, layout, rate)
        packed = np.ascontiguousarray(planes.T).reshape(1, -1)
        frame = av.AudioFrame.from_ndarray(packed, format="flt", layout=layout)
        frame.sample_rate, frame.pts, frame.time_base = rate, 0, Fraction(1, rate)
        for block in [*resampler.resample(frame), *resampler.resample(None)]:
            container.mux(stream.encode(block))
        container.mux(stream.encode(None))
    return path


def read_wav(path: Path) -> tuple[int, Samples]:
    """Rate, and [channels, samples] of full scale 1.0."""
    with wave.open(str(path)) as file:
        assert file.getsampwidth() == 2
        raw = np.frombuffer(file.readframes(file.getnframes()), "<i2")
        return file.getframerate(), raw.reshape(-1, file.getnchannels()).T / 32768


def sine(hz: float, seconds: float, rate: int, offset: float = 0.0) -> Samples:
    """A sine of amplitude 0.2 that lasts from 0 to `seconds`, of which `offset` is skipped."""
    time = np.arange(round((seconds - offset) * rate)) / rate + offset
    return 0.2 * np.sin(2 * np.pi * hz * time)


def at(offset: float, signal: Samples, rate: int, samples: int) -> Samples:
    """The signal from `offset` seconds on, `samples` long in all."""
    out = np.zeros(samples)
    start = round(offset * rate)
    part = signal[: max(0, samples - start)]
    out[start : start + len(part)] = part
    return out


# Rate, channels, seconds, and the pitch of the first channel; the second one is an octave up.
FOUR = (
    (8000, 1, 1.0, 210.0),
    (44_100, 2, 2.0, 340.0),
    (48_000, 1, 0.5, 470.0),
    (22_050, 2, 1.5, 590.0),
)


def heard(path: Path, offset: float = 0.0, name: str = "wav_url") -> Voice:
    return Voice(name, path, probe_sound(name, path, max_seconds=60), offset)


def write_four(folder: Path, offsets: tuple[float, ...]) -> list[Voice]:
    voices = []
    for index, (rate, channels, seconds, hz) in enumerate(FOUR):
        pitches = [hz * (1 + channel) for channel in range(channels)]
        path = folder / f"{index}.wav"
        write_sound(path, [sine(pitch, seconds, rate) for pitch in pitches], rate, "pcm_s16le")
        voices.append(heard(path, offsets[index], f"audio_urls.{index}"))
    return voices


def test_the_length_of_a_voice_is_what_decodes(tone: Callable[..., Path]) -> None:
    path = tone(seconds=1.25, rate=44_100, channels=2)
    expected = Sound(1.25, 44_100, 2, silent=False, pcm=True)
    assert probe_sound("wav_url", path, max_seconds=60) == expected


@pytest.mark.parametrize(("peak", "silent"), [(0.0, True), (0.0009, True), (0.0011, False)])
def test_a_sound_below_minus_60_dbfs_is_silent(tmp_path: Path, peak: float, silent: bool) -> None:
    path = write_sound(tmp_path / "quiet.wav", np.full((1, 9000), peak), 16_000)
    assert probe_sound("wav_url", path, max_seconds=60).silent is silent


def test_probing_stops_soon_after_the_longest_length(tone: Callable[..., Path]) -> None:
    assert 3 < probe_sound("wav_url", tone(seconds=9), max_seconds=2).duration < 5


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 1e30])
@pytest.mark.parametrize("place", [0, 40_000])
def test_samples_that_are_no_numbers_are_refused(tmp_path: Path, bad: float, place: int) -> None:
    samples = np.zeros((2, 48_000), np.float32)
    samples[1, place] = bad
    path = write_sound(tmp_path / "bad.wav", samples, 48_000)
    with pytest.raises(MediaInvalid, match="wav_url: the sound holds samples that are not finite"):
        probe_sound("wav_url", path, max_seconds=60)
    voice = Voice("wav_url", path, Sound(1, 48_000, 2, False))
    with pytest.raises(MediaInvalid, match="wav_url: "):
        save_mix([voice], tmp_path / "mix.wav", seconds=1)


@pytest.mark.parametrize("content", [b"", b"#EXTM3U\n/etc/passwd\n", b"not a sound" * 99])
def test_what_is_not_sound_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "voice.wav").write_bytes(content)
    with pytest.raises(MediaInvalid, match="wav_url: the sound cannot be decoded"):
        probe_sound("wav_url", tmp_path / "voice.wav", max_seconds=60)


def test_a_title_in_an_old_encoding_does_no_harm(tone: Callable[..., Path]) -> None:
    path = tone(seconds=1)
    title = b"LIST" + struct.pack("<I", 16) + b"INFOINAM" + struct.pack("<I", 4) + b"\xdcber"
    path.write_bytes(path.read_bytes() + title)
    assert probe_sound("wav_url", path, max_seconds=60).duration == 1


def test_an_empty_wav_holds_no_sound(tone: Callable[..., Path]) -> None:
    with pytest.raises(MediaInvalid, match="wav_url: the file holds no sound"):
        probe_sound("wav_url", tone(seconds=0), max_seconds=60)


def test_a_video_without_sound_is_no_voice(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "v.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 48, "yuv420p")))
        container.mux(stream.encode(None))
    with pytest.raises(MediaInvalid, match="wav_url: the file has no audio stream"):
        probe_sound("wav_url", tmp_path / "v.mp4", max_seconds=60)


def test_seven_channels_are_delivered_as_eight(tmp_path: Path) -> None:
    """AAC has no usual name for seven."""
    tones = [sine(100 * (3 + k), 1, 48_000) for k in range(7)]
    source = write_sound(tmp_path / "seven.wav", tones, 48_000)
    save_mix([heard(source)], tmp_path / "mix.wav", seconds=1)
    _, mix = read_wav(tmp_path / "mix.wav")
    assert len(mix) == 8
    assert np.allclose(mix[:4], tones[:4], atol=1e-4)
    assert all(channel.any() for channel in mix)


def test_more_than_eight_channels_are_refused(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "nine.wav"), "wb") as file:
        file.setparams((9, 2, 48_000, 0, "NONE", ""))
        file.writeframes(bytes(18 * 9000))
    with pytest.raises(MediaInvalid, match="wav_url: 9 audio channels, allowed: 1 to 8"):
        probe_sound("wav_url", tmp_path / "nine.wav", max_seconds=60)


@pytest.mark.parametrize("rate", [10, 1_358_998_596])
def test_a_senseless_rate_is_refused(tone: Callable[..., Path], rate: int) -> None:
    path = tone(seconds=1)
    content = bytearray(path.read_bytes())
    content[24:28] = struct.pack("<I", rate)
    path.write_bytes(content)
    with pytest.raises(MediaInvalid, match=f"wav_url: {rate} samples a second, allowed: 1000 to"):
        probe_sound("wav_url", path, max_seconds=60)


def test_a_fault_names_the_voice_that_has_it(tone: Callable[..., Path], tmp_path: Path) -> None:
    samples = np.zeros((1, 16_000), np.float32)
    samples[0, 12_000] = np.nan
    bad = write_sound(tmp_path / "bad.wav", samples, 16_000)
    half = Voice("wav_url", bad, Sound(1, 16_000, 1, False))
    voices = [half, heard(tone(seconds=1), name="wav_url_2")]
    with pytest.raises(MediaInvalid, match=r"^wav_url: "):
        save_mix(voices, tmp_path / "mix.wav", seconds=1)


@pytest.mark.parametrize("offsets", [(0.0, 0.0, 0.0, 0.0), (0.0, 1.0, 3.0, 3.5)])
@pytest.mark.parametrize("seconds", [5.0, 2.71828])
def test_four_voices_land_at_their_offsets_in_the_mix(
    tmp_path: Path, offsets: tuple[float, ...], seconds: float
) -> None:
    voices = write_four(tmp_path, offsets)
    save_mix(voices, tmp_path / "mix.wav", seconds=seconds)
    rate, mix = read_wav(tmp_path / "mix.wav")
    assert (rate, mix.shape) == (48_000, (2, round(seconds * 48_000)))
    for channel in (0, 1):
        originals = [
            at(offset, sine(hz * (1 + channel * (count - 1)), length, rate), rate, mix.shape[1])
            for offset, (_, count, length, hz) in zip(offsets, FOUR, strict=True)
        ]
        expected = np.sum(originals, axis=0)
        assert np.corrcoef(mix[channel], expected)[0, 1] > 0.999
        assert np.abs(mix[channel] - expected).mean() < 0.002


@pytest.mark.parametrize("offset", [0.0, 0.25, 1.4])
@pytest.mark.parametrize(("rate", "channels"), [(8000, 1), (44_100, 2), (48_000, 6)])
def test_a_speech_track_starts_at_its_offset_and_is_cut_and_padded(
    tmp_path: Path, offset: float, rate: int, channels: int
) -> None:
    source = write_sound(tmp_path / "v.wav", [sine(300, 2, rate)] * channels, rate)
    voice = heard(source, offset)
    save_speech(voice, tmp_path / "s.wav", seconds=1.5, padded_samples=30_000)
    got_rate, track = read_wav(tmp_path / "s.wav")
    assert (got_rate, track.shape) == (16_000, (1, 30_000))
    expected = at(offset, sine(300, 2, 16_000), 16_000, 24_000)
    assert np.corrcoef(track[0, :24_000], expected)[0, 1] > 0.999
    assert not track[0, : round(offset * 16_000)].any()
    assert not track[0, 24_000:].any()


def test_a_listener_has_a_silent_track_of_the_same_length(tmp_path: Path) -> None:
    save_speech(None, tmp_path / "s.wav", seconds=1.5, padded_samples=100_000)
    rate, track = read_wav(tmp_path / "s.wav")
    assert (rate, track.shape) == (16_000, (1, 100_000))
    assert not track.any()


def test_a_loud_float_recording_is_turned_down_for_speech(tmp_path: Path) -> None:
    source = write_sound(tmp_path / "v.wav", [20 * sine(300, 1, 16_000)], 16_000)
    save_speech(heard(source), tmp_path / "s.wav", seconds=1, padded_samples=16_000)
    track = read_wav(tmp_path / "s.wav")[1]
    assert np.allclose(track[0], 5 * sine(300, 1, 16_000), atol=1e-3)


@pytest.mark.parametrize("channels", [1, 2, 6])
@pytest.mark.parametrize("rate", [16_000, 44_100])
def test_one_voice_alone_is_delivered_bit_for_bit(tmp_path: Path, rate: int, channels: int) -> None:
    noise = np.random.default_rng(1).uniform(-1, 1, (channels, 2 * rate))
    source = write_sound(tmp_path / "v.wav", noise, rate, "pcm_s16le")
    save_mix([heard(source)], tmp_path / "mix.wav", seconds=1.5)
    with av.open(str(source)) as container:
        frames = [f.to_ndarray() for f in container.decode(audio=0)]
    original = np.concatenate(frames, axis=1)[0, : round(1.5 * rate) * channels]
    with wave.open(str(tmp_path / "mix.wav")) as file:
        assert file.getparams()[:4] == (channels, 2, rate, round(1.5 * rate))
        assert file.readframes(2 * rate) == original.astype("<i2").tobytes()


@pytest.mark.parametrize(("rate", "delivered"), [(37_800, 44_100), (192_000, 96_000)])
def test_the_mix_has_a_rate_that_aac_takes(tmp_path: Path, rate: int, delivered: int) -> None:
    source = write_sound(tmp_path / "v.wav", [sine(300, 1, rate)], rate)
    save_mix([heard(source)], tmp_path / "mix.wav", seconds=1)
    got, mix = read_wav(tmp_path / "mix.wav")
    assert got == delivered
    assert np.corrcoef(mix[0], sine(300, 1, delivered))[0, 1] > 0.999


def test_left_and_right_stay_apart_and_mono_goes_to_both(tmp_path: Path) -> None:
    tones = [sine(hz, 1, 48_000) for hz in (300, 500, 700)]
    stereo = write_sound(tmp_path / "stereo.wav", tones[:2], 48_000)
    mono = write_sound(tmp_path / "mono.wav", tones[2:], 48_000)
    save_mix([heard(stereo), heard(mono)], tmp_path / "mix.wav", seconds=1)
    _, mix = read_wav(tmp_path / "mix.wav")
    assert np.allclose(mix, [tones[0] + tones[2], tones[1] + tones[2]], atol=1e-4)


def test_beside_surround_sound_the_others_play_on_the_front_pair(tmp_path: Path) -> None:
    tones = [sine(100 * (3 + k), 1, 48_000) for k in range(9)]
    surround = write_sound(tmp_path / "surround.wav", tones[:6], 48_000)
    stereo = write_sound(tmp_path / "stereo.wav", tones[6:8], 48_000)
    mono = write_sound(tmp_path / "mono.wav", tones[8:], 48_000)
    voices = [heard(mono), heard(surround), heard(stereo)]
    save_mix(voices, tmp_path / "mix.wav", seconds=1)
    _, mix = read_wav(tmp_path / "mix.wav")
    expected = np.array(tones[:6])
    expected[0] += tones[6] + tones[8]
    expected[1] += tones[7] + tones[8]
    assert np.allclose(mix, expected, atol=1e-4)


def test_a_sum_over_full_scale_is_turned_down_by_one_gain(tmp_path: Path) -> None:
    one, other = 5 * sine(300, 4, 48_000), 5 * sine(470, 2, 48_000)
    voices = [
        heard(write_sound(tmp_path / name, [tone], 48_000), offset, name)
        for name, tone, offset in (("a.wav", one, 0.0), ("b.wav", other, 1.0))
    ]
    save_mix(voices, tmp_path / "mix.wav", seconds=4)
    _, mix = read_wav(tmp_path / "mix.wav")
    total = one + at(1, other, 48_000, 4 * 48_000)
    gain = 1 / np.abs(total).max()
    assert gain < 0.6
    assert np.abs(mix[0] - gain * total).max() < 1.1 / 32768


@pytest.mark.parametrize(
    ("name", "codec"), [("v.mp3", "libmp3lame"), ("v.flac", "flac"), ("v.m4a", "aac")]
)
def test_compressed_voices_are_mixed_where_they_begin(
    tmp_path: Path, name: str, codec: str
) -> None:
    swell = sine(300, 2, 44_100) * np.linspace(0, 1, 88_200)
    source = write_sound(tmp_path / name, [swell, swell], 44_100, codec)
    save_mix([heard(source, 0.5)], tmp_path / "mix.wav", seconds=2.5)
    rate, mix = read_wav(tmp_path / "mix.wav")
    assert np.corrcoef(mix[0], at(0.5, swell, rate, mix.shape[1]))[0, 1] > 0.99


@settings(max_examples=40)
@given(pans=st.lists(st.tuples(st.floats(-1, 1), st.floats(-1, 1), st.floats(-1, 1)), min_size=1))
def test_what_the_model_hears_is_at_most_6_db_below_the_loudest_channel(
    pans: list[tuple[float, float, float]],
) -> None:
    """Three voices, panned as one likes to one to eight channels, against one another too."""
    voices = np.concatenate([sine(hz, 0.5, 8000)[None] for hz in (200, 300, 500)])
    channels = np.array(pans[:8]) @ voices
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "v.wav"
        write_sound(path, channels, 8000)
        voice = heard(path)
        save_speech(voice, Path(folder) / "s.wav", seconds=0.5, padded_samples=8000)
        speech = read_wav(Path(folder) / "s.wav")[1][0]
    loudest_channel = np.sqrt(np.mean(np.square(channels), axis=1)).max()
    assert np.sqrt(np.mean(np.square(speech))) > 0.48 * loudest_channel - 1e-4


def test_many_pauses_shift_neither_the_speech_nor_the_mix(tmp_path: Path) -> None:
    (tmp_path / "v.mka").write_bytes(
        at_other_times(plain("mka", 30.0), "matroska", lambda at: at + 0.0713 * int(at * 4))
    )
    voice = heard(tmp_path / "v.mka")
    seconds = voice.sound.duration
    assert seconds == pytest.approx(30 + 119 * 0.0713, abs=0.05)
    save_mix([voice], tmp_path / "mix.wav", seconds=seconds)
    save_speech(voice, tmp_path / "s.wav", seconds=seconds, padded_samples=round(seconds * 16_000))
    ends = []
    for name in ("mix.wav", "s.wav"):
        rate, samples = read_wav(tmp_path / name)
        ends.append(np.flatnonzero(np.abs(samples[0]) > 0.02)[-1] / rate)
    assert abs(ends[0] - ends[1]) < 0.002


def test_memory_does_not_grow_with_length(tmp_path: Path) -> None:
    with wave.open(str(tmp_path / "long.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        second = (sine(300, 1, 16_000) * 32767).astype("<i2").tobytes()
        for _ in range(600):
            file.writeframes(second)
    voice = heard(tmp_path / "long.wav")
    tracemalloc.start()
    save_mix([voice, voice], tmp_path / "mix.wav", seconds=600)
    save_speech(voice, tmp_path / "s.wav", seconds=600, padded_samples=9_600_000)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4e6, "ten minutes are 38 MB of float samples a voice"


def test_a_stretch_is_a_part_of_the_track_to_the_sample(tmp_path: Path) -> None:
    track = write_sound(tmp_path / "t.wav", [sine(220, 3, 16_000)], 16_000, "pcm_s16le")
    part = tmp_path / "part.wav"
    save_stretch(track, part, first=16_000, samples=24_000, loudest=loudest(track))
    assert np.array_equal(read_wav(part)[1], read_wav(track)[1][:, 16_000:40_000])


def test_a_stretch_ends_where_the_track_does(tmp_path: Path) -> None:
    track = write_sound(tmp_path / "t.wav", [sine(220, 2, 16_000)], 16_000, "pcm_s16le")
    part = tmp_path / "part.wav"
    save_stretch(track, part, first=16_000, samples=99_000, loudest=0.1)
    assert read_wav(part)[1].shape == (1, 16_000)


@pytest.mark.parametrize(("noise_db", "silent"), [(-30, False), (-40, True)])
def test_a_stretch_in_which_nobody_speaks_is_silent(
    noise_db: float, silent: bool, tmp_path: Path
) -> None:
    speech = sine(220, 2, 16_000)
    noise = speech * 10 ** (noise_db / 20)
    both = np.concatenate([speech, noise])[None]
    track = write_sound(tmp_path / "t.wav", both, 16_000, "pcm_s16le")
    part = tmp_path / "part.wav"
    save_stretch(track, part, first=32_000, samples=32_000, loudest=loudest(track))
    assert (not read_wav(part)[1].any()) is silent


def test_more_sound_than_a_wav_file_holds_is_refused(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "v.wav", np.zeros((6, 960)), 96_000)
    voice = Voice("wav_url", path, Sound(7200, 96_000, 6, True))
    with pytest.raises(
        MediaTooLarge, match=r"wav_url: 7200 s at 96000 Hz on 6 channels make 8\.3 GB"
    ):
        save_mix([voice], tmp_path / "mix.wav", seconds=7200)
