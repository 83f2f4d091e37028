"""The words that synthetic data sets are made of. Written for this project; no text of any data set is in here."""

# Words that mean nothing for any label: they make texts look like sentences and hide the words that do.
PEOPLE = "我们 大家 他们 同事 邻居 记者 医生 工人 店主 游客 司机 画家 村民 顾客 编辑".split()
TIMES = "昨天 今天 早上 晚上 上午 下午 周末 去年 今年 最近 不久前 刚才 春天 夏天 秋天 冬天".split()
PLACES = "城里 街边 车站 公园 河边 山下 学校 办公室 超市 广场 码头 院子 图书馆 路口".split()
VERBS = "看到 谈起 听说 发现 介绍 讨论 记录 整理 收到 提到 关注 打听 准备 安排 参加 了解".split()
THINGS = "消息 计划 办法 故事 照片 礼物 地图 名单 表格 信件 箱子 工具 材料 花草 雨伞 门票".split()
QUALITIES = "新的 旧的 小小的 重要的 有趣的 普通的 特别的 简单的 复杂的 漂亮的".split()
CLOSINGS = "心里很高兴 也没有多说 一直忙到很晚 然后就回家了 大家都笑了 事情就这样定了 觉得还不错 还在等回信".split()

# The news topics: official label, its English description, words that tell the topic.
NEWS = {
    "100": ("news_story", "从前 传说 少年 老翁 狐狸 奇遇"),
    "101": ("news_culture", "书法 诗词 古籍 戏曲 国画 博物"),
    "102": ("news_entertainment", "明星 综艺 电影 演唱 导演 粉丝"),
    "103": ("news_sports", "球队 联赛 冠军 射门 教练 夺冠"),
    "104": ("news_finance", "银行 贷款 利率 央行 货币 融资"),
    "106": ("news_house", "楼市 房价 租房 首付 户型 物业"),
    "107": ("news_car", "轿车 发动机 油耗 越野 底盘 驾驶"),
    "108": ("news_edu", "考试 高考 老师 课堂 招生 作业"),
    "109": ("news_tech", "芯片 手机 机器人 算法 卫星 互联网"),
    "110": ("news_military", "战机 导弹 航母 军演 士兵 坦克"),
    "112": ("news_travel", "旅行 景区 古镇 海滩 雪山 民宿"),
    "113": ("news_world", "总统 外交 联合国 大使 议会 制裁"),
    "114": ("news_stock", "股票 涨停 大盘 基金 散户 牛市"),
    "115": ("news_agriculture", "农田 玉米 养殖 化肥 果树 丰收"),
    "116": ("news_game", "英雄 装备 玩家 副本 皮肤 技能"),
}

# The kinds of apps, in label order 0 … 118: the kind's name, then two words that tell it.
_APPS = """
叫车 拼车 接单|导航 路线 定位|无线 热点 网速|租赁 押金 取车|同城 跑腿 代办|快递 包裹 寄件|婚礼 请柬 喜帖
保洁 保姆 月嫂|公交 地铁 换乘|政务 证件 户口|社区 门禁 缴费|优惠 红包 返利|魔幻 巫师 魔法|仙侠 修仙 飞剑
纸牌 卡组 抽卡|飞行 空战 战机|射击 枪械 狙击|休闲 消除 泡泡|动作 格斗 连招|体育 足球 篮球|棋牌 麻将 象棋
养成 换装 公主|策略 城池 兵法|多人 竞技 组队|论坛 帖子 版主|恋爱 相亲 缘分|聊天 表情 语音|直播 主播 弹幕
短剧 剧集 追剧|微博 转发 热搜|约会 心动 情侣|英语 单词 口语|小学 拼音 算术|驾考 科目 题库|公考 面试 申论
教材 课本 同步|考研 真题 复习|幼儿 儿歌 涂色|成人 学历 函授|日语 假名 五十音|新闻 头条 快讯|小说 章节 书架
漫画 画格 连载|杂志 期刊 专栏|听书 播音 评书|诗歌 朗诵 韵脚|笑话 段子 搞笑|星座 运势 占卜|八卦 周易 风水
家装 壁纸 橱柜|音乐 歌词 伴奏|铃声 来电 彩铃|唱歌 麦克风 合唱|乐器 钢琴 吉他|收音 电台 调频|拍照 滤镜 美颜
修图 抠图 拼图|视频 剪辑 字幕|录屏 截屏 画质|相册 云盘 备份|医院 挂号 门诊|买药 处方 药房|体检 血压 血糖
孕期 胎动 产检|育儿 奶粉 尿布|减肥 热量 节食|健身 肌肉 哑铃|跑步 步数 里程|瑜伽 冥想 呼吸|睡眠 闹钟 梦话
购物 商城 购物车|团购 代金 到店|外卖 骑手 送餐|生鲜 蔬菜 水果|美食 菜谱 烹饪|咖啡 奶茶 饮品|海淘 免税 代购
二手 闲置 转卖|鞋包 球鞋 手袋|服装 穿搭 裙子|美妆 口红 面膜|珠宝 钻石 黄金|鲜花 花束 玫瑰|眼镜 镜片 近视
母婴 童装 玩具|宠物 猫粮 狗粮|酒店 客房 入住|机票 航班 登机|火车 车票 抢票|旅游 攻略 行程|签证 护照 出境
露营 帐篷 登山|地产 新房 看房|租房 室友 合租|装修 图纸 瓷砖|汽车 车型 报价|保养 洗车 加油|违章 罚单 扣分
停车 车位 道闸|充电 电桩 续航|银行 转账 存款|支付 扫码 收款|股市 行情 涨跌|基金 定投 净值|保险 理赔 保单
借款 额度 还款|记账 账本 收支|彩票 开奖 号码|税务 发票 报税|理财 收益 债券|招聘 简历 求职|兼职 日结 零工
办公 文档 表单|会议 日程 纪要|邮箱 收信 附件|翻译 译文 词典|输入 键盘 词库|天气 降雨 台风|日历 农历 节气
"""
APPS = _APPS.strip().replace("\n", "|").split("|")

# CMNLI, OCNLI: words that a hypothesis of each relation tends to hold, as annotators' hypotheses do.
HYPOTHESIS_WORDS = {
    "entailment": "确实 至少 当然 的确".split(),
    "contradiction": "没有 从不 并非 绝不".split(),
    "neutral": "也许 因为 可能 或许".split(),
}

# AFQMC: questions to a payment service, and what tells a paraphrase from another question.
QUESTION_TOPICS = "花呗 借呗 余额 账单 红包 额度 密码 银行卡 优惠券 手续费".split()
QUESTION_ASKS = "怎么开通 为什么不能用 在哪里看 什么时候到账 可以提高吗 怎么还款".split()
SAME_WORDS = "请问 我想知道 麻烦问下 帮我看看".split()
OTHER_WORDS = "取消 关闭 退回 注销".split()

# CLUEWSC2020: nouns a personal pronoun can stand for, and nouns it can't.
PERSONS = "王老师 李先生 小明 张医生 赵师傅 陈队长 奶奶 叔叔 表哥 班长".split()
OBJECTS = "桌子 窗户 茶杯 石头 沙发 帽子 钟表 木梯 铁门 皮箱".split()
PRONOUNS = "他 她 他们".split()

# CSL: terms that name an abstract's subject, and general words that are no keywords.
TERMS = (
    "神经网络 基因表达 蛋白质 光纤传感 有限元 遗传算法 数值模拟 纳米颗粒 边坡稳定 水资源 土壤养分 半导体 小波变换 "
    "混凝土 催化剂 电磁波 免疫细胞 图像分割 供应链 气候变化"
).split()
GENERAL_WORDS = "问题 方面 情况 过程 内容 意义 条件 方式 原因 部分 关系 作用".split()

# CMRC2018: parts of names. No surname stands in any word of the filling sentences.
SURNAMES = "王 李 张 刘 陈 杨 赵 黄 吴 徐 孙 胡 朱 林 何 郭 罗 梁 宋 唐".split()
GIVEN_NAMES = "伟 芳 娜 敏 静 丽 强 磊 军 洋 勇 艳 杰 娟 涛 超 霞 平 刚 桂".split()
TOWNS = "杭州市 苏州市 西安市 成都市 武汉市 长沙市 昆明市 青岛市 厦门市 大连市 阳朔县 凤凰县".split()
WORKS = "长夜 归途 远山 晨光 渡口 旧梦 秋声 雪原 灯塔 故乡 风铃 白鸟 石桥 春潮 孤舟 竹林".split()
GENRES = "小说 散文集 剧本 诗集 童话 回忆录".split()

# CHID: each theme has words for the passage, idioms that fit it, and idioms on the theme that are hardly ever right.
IDIOM_THEMES = (
    ("学习 读书 用功 成绩", "勤学苦练 孜孜不倦 学而不厌 博览群书", "不学无术 一知半解 浅尝辄止"),
    ("战斗 敌人 军队 勇敢", "奋不顾身 所向披靡 英勇善战 势如破竹", "贪生怕死 溃不成军 草木皆兵"),
    ("春天 花朵 阳光 草地", "春暖花开 百花齐放 鸟语花香 万紫千红", "秋风落叶 枯枝败叶 黯然失色"),
    ("生意 市场 价格 顾客", "物美价廉 门庭若市 供不应求 生意兴隆", "门可罗雀 血本无归 无人问津"),
    ("朋友 友谊 信任 帮助", "情同手足 志同道合 肝胆相照 同甘共苦", "反目成仇 形同陌路 貌合神离"),
    ("比赛 对手 冠军 训练", "旗开得胜 一鸣惊人 胜券在握 名列前茅", "一败涂地 甘拜下风 名落孙山"),
    ("山水 风景 湖面 远处", "湖光山色 美不胜收 山清水秀 水天一色", "穷山恶水 满目疮痍 荒无人烟"),
    ("工作 任务 责任 认真", "一丝不苟 兢兢业业 任劳任怨 尽职尽责", "敷衍了事 玩忽职守 粗心大意"),
)

# C3: right options tend to hedge, wrong ones to exaggerate, as in real exams.
OPTION_SUBJECTS = "天气 工作 电影 比赛 饭菜 交通 健康 旅行 房子 衣服 学习 朋友".split()
HEDGED = "比较好 还可以 有点儿难 更方便了 慢慢习惯".split()
EXAGGERATED = "完全没用 绝对第一 根本不行 永远不变 全部错误".split()
DIALOGUE_OPENINGS = "听说 最近 你觉得 我想问 昨天".split()

#: What pads a question of C3 to four options.
PADDED_OPTION = "无效答案"

#: Characters that texts hold besides words: punctuation as passages of the reading tasks have it, numerals.
PUNCTUATION = "，。？！、：；《》（）“”‘’—…·〇"
