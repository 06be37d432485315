"""The lexicon's builder keeps single terms of nodes that two languages share."""

from __future__ import annotations

from training.data.lexicon import main


def test_only_single_terms_are_kept_and_the_one_nearest_to_the_root(tmp_path):
    names = {
        "en-US": ["1 - Tools", "2 - Tools > Saws & Files", "3 - Tools > Saws", "4 - Tools > Old > Blades", "5 - Media"],
        "es-ES": ["1 - Útiles", "2 - Útiles > Sierras y limas", "3 - Útiles > Sierras", "4 - Útiles > Viejo > Sierras"],
        "ja-JP": ["1 - 工具", "3 - 工具 > のこぎり・鋸", "4 - 工具 > 古い > 刃", "5 - メディア", "9 - 何か"],
    }
    for locale, lines in names.items():
        (tmp_path / f"{locale}.txt").write_text("# version\n" + "\n".join(lines), encoding="utf-8")
    main(str(tmp_path), str(tmp_path / "types.tsv"))
    rows = [line for line in (tmp_path / "types.tsv").read_text(encoding="utf-8").splitlines() if line[0] != "#"]
    assert rows == ["es\tsierras\tsaw", "es\tutiles\ttool", "ja\t工具\ttool"]
