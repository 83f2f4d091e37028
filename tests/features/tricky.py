"""Texts that tokenizers treat differently."""

TRICKY = [
    "",
    " \t\n ",
    "他们2016年hello，HELLO!",
    "hello" * 30,
    "Ａ１，全角",
    "Café CAFE\u0301 e\u0301\u0301 naïve",
    "ΑΣ ΑΣΑ σς Σ",
    "İstanbul ǅ ß ﬁ",
    "한 국 하",
    "a\u200bb\x00c\ufeff\ufffd",
    "\u2028a\u2029b\x85c\x1cd",
    "$+<=>^`|~©™№①²Ⅷ㎡℃〇µØ",
    "シンコー ใช้ हिन्दी",
    "豈\U00020000\U0002f800\U0001f600\U0001f468\u200d\U0001f469\ufe0f",
    "[MASK]他们[mask] [UNK][CLS]x[SEP]",
    "a[MA\u200bSK]b [ MASK ]",
    "\u302e\u302fa\u0301\u302e\U0001d165b",
    "\ud83d中",
    "#idiom000000# ##a",
]
