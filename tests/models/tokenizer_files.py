"""Little tokenizer.json files, made with the `tokenizers` library."""

from pathlib import Path

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

SPECIAL = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]


def _finished(tokenizer: Tokenizer, folder: Path) -> list[str]:
    """Written with RoBERTa's template; returns all tokens."""
    tokenizer.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL])
    numbers = {token: tokenizer.token_to_id(token) for token in SPECIAL}
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> </s> $B </s>",
        special_tokens=[("<s>", numbers["<s>"]), ("</s>", numbers["</s>"])],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)


def write_byte_pairs(folder: Path, characters: str) -> list[str]:
    """Bytes, and the few merges that are learnt from the characters: most Chinese ones are three tokens."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=300, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator([characters], trainer)
    return _finished(tokenizer, folder)


def write_unigram(folder: Path, characters: str) -> list[str]:
    """As XLM-RoBERTa's: compatibility normalisation, and a mark where a word begins."""
    pieces = [*SPECIAL, "\u2581", *dict.fromkeys("abcdefghijklmnopqrstuvwxyz0123456789,.?!-\"'" + characters)]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=3))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    return _finished(tokenizer, folder)
