"""How well and how fast passages are found: ``python tests/benchmarks/retrieval.py [--recall] [--speed]``.

Recall is the share of questions for which one of the first three passages holds the answer. The documents are
of all formats and in two languages, and the questions ask as people do, not in the words of the documents.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import sys
import tempfile
import time
from pathlib import Path
from statistics import quantiles

sys.path.insert(0, str(Path(__file__).parents[1]))

import document_files as make
import psutil

from glmtui.retrieval import collections, update

FILES: dict[str, bytes] = {
    "员工手册.md": """# 员工手册
## 第一章 工作时间
### 1.1 上下班
公司实行弹性工作制，核心工作时间为上午十点至下午四点，每天工作满八小时。迟到超过三十分钟按半天事假处理。
### 1.2 加班
加班须由部门经理事先批准。工作日加班按工资的百分之一百五十支付，周末加班优先安排调休，法定节假日加班按百分之三百支付。
### 1.3 远程办公
每周可以在家办公两天，需在前一天通过 OA 系统登记。试用期员工不适用。
## 第二章 假期
### 2.1 年假
入职满一年享有十天带薪年假，满五年为十五天。年假应提前三个工作日申请，未休完的部分可以顺延到次年三月底。
### 2.2 病假
病假须提供二级以上医院的诊断证明。三天以内的病假工资照发，超过三天按百分之八十发放。
### 2.3 婚假与产假
婚假十天。女员工产假一百五十八天，男员工陪产假十五天。
## 第三章 报销
### 3.1 差旅
国内出差住宿标准：一线城市每晚五百元，其他城市每晚三百五十元。火车限二等座，飞机限经济舱。
### 3.2 流程
报销单须在费用发生后三十天内提交，附发票原件，财务部在五个工作日内打款。
## 第四章 信息安全
### 4.1 密码
登录密码至少十二位，每九十天更换一次，不得与最近五次相同。
### 4.2 设备
笔记本电脑离开座位须锁屏。丢失设备应在两小时内联系信息安全组，电话 8010。
""".encode(),
    "常见问题.txt": """问：怎样重置路由器？
答：用牙签按住背面的 RESET 孔十秒，指示灯全部闪烁后松开，设备会恢复出厂设置。

问：忘记管理员口令怎么办？
答：出厂口令印在机身底部的标签上；改过又忘记的，只能恢复出厂设置。

问：信号时好时坏是什么原因？
答：多半是同频干扰，请在“无线设置”里把信道从自动改为 1、6 或 11，或者换到 5G 频段。

问：可以同时连多少台设备？
答：家用型号 R20 建议不超过 32 台，企业型号 R50 可到 128 台。

问：保修期多长？
答：主机保修三年，电源适配器保修一年，进水和雷击不在保修范围内。

问：如何升级固件？
答：在“系统工具”里选择“在线升级”，升级过程约四分钟，期间不要断电。

问：指示灯红色常亮表示什么？
答：表示没有拿到上网地址，请检查光猫与 WAN 口之间的网线。

问：访客网络能访问内网吗？
答：不能，访客网络与内网隔离，只能上网。
""".encode("gb18030"),
    "价目表.xlsx": make.xlsx(
        {
            "路由器": [
                ["型号", "名称", "单价（元）", "库存", "上市"],
                ["R20-A", "家用双频路由器", 299, 1240, "2022-03"],
                ["R20-B", "家用三频路由器", 459, 310, "2023-08"],
                ["R50-X", "企业级路由器", 1899, 75, "2021-11"],
                ["M10", "旅行便携路由器", 129, 2033, "2024-01"],
            ],
            "交换机": [
                ["型号", "端口", "单价（元）", "供电"],
                ["S8-G", "8 口千兆", 189, "外接电源"],
                ["S24-P", "24 口千兆 PoE", 2150, "PoE 370W"],
                ["S48-T", "48 口万兆", 8800, "双电源"],
            ],
            "服务": [
                ["项目", "价格（元/年）", "内容"],
                ["金牌维保", 3600, "七乘二十四小时电话，四小时到场"],
                ["银牌维保", 1200, "工作日电话，次日到场"],
            ],
        }
    ),
    "机房改造方案.docx": make.docx(
        (1, "机房改造方案"),
        "本方案针对总部三楼机房，目标是在不中断业务的前提下完成供电与制冷的升级。",
        (2, "供电"),
        "现有两路市电引入，容量各为 250 千伏安。改造后增加一台 400 千瓦的柴油发电机，油箱可支持满载运行八小时。",
        "不间断电源采用模块化结构，电池后备时间不少于三十分钟。",
        (2, "制冷"),
        "采用列间空调，送风温度设定为二十二摄氏度，冷热通道封闭。原有的精密空调拆除两台，保留一台备用。",
        (2, "消防"),
        "气体灭火使用七氟丙烷，喷放前有三十秒的疏散时间。",
        (2, "进度"),
        [
            ["阶段", "内容", "开始", "结束", "负责人"],
            ["一", "设备采购", "3月1日", "4月15日", "李文博"],
            ["二", "管线施工", "4月16日", "5月20日", "赵敏"],
            ["三", "割接与测试", "5月21日", "6月10日", "陈志远"],
        ],
        (2, "预算"),
        "总预算三百二十万元，其中供电部分一百八十万元，制冷部分九十万元，其余为施工与监理费用。",
    ),
    "release-notes.md": b"""# Release notes
## 4.2.0
### Added
- Offline maps: regions can be stored on the phone and used without a connection.
- Dark theme for tablets.
### Fixed
- The battery drain caused by background location updates is gone; idle consumption is back under 1 % per hour.
- Crash when a route had more than 200 waypoints (NAV-3381).
## 4.1.3
### Security
- TLS certificates are pinned again. Versions 4.1.0 to 4.1.2 accepted any certificate (CVE-2023-41777).
### Changed
- The minimum Android version is now 9.
## 4.1.0
### Added
- Share your position with friends for 15 minutes, one hour or until you stop it.
- Cycling routes prefer quiet streets.
### Removed
- The old widget; use the new one from the gallery.
## 4.0.0
### Changed
- Accounts moved to the new identity service: everybody has to sign in once more.
- Speed limits are shown in the colour of the country's signs.
""",
    "pump-manual.pdf": make.pdf(
        "HX-300 Submersible Pump\nOperating manual\n\n1. Safety\nDisconnect the mains before touching the pump.\n"
        "The pump must never run dry for more than\nthirty seconds: the shaft seal overheats.\nChildren must not play with the device.",
        "2. Installation\nHang the pump from a rope, never from its cable.\nThe intake has to be at least 20 cm above the\n"
        "ground of the well.\nUse a hose with an inner diameter of 32 mm or more.\n\n3. Operation\n"
        "The float switch starts the motor at 55 cm of\nwater and stops it at 15 cm.\nMaximum immersion depth is 8 m.",
        "4. Maintenance\nClean the filter basket every three months.\nReplace the mechanical seal after 4000 hours.\n"
        "Store the pump free of frost during winter.\n\n5. Troubleshooting\nMotor hums but does not turn: the impeller is blocked;\n"
        "remove stones and fibres.\nThermal protection trips: let it cool down for 20 minutes.\n\n"
        "6. Technical data\nPower 750 W, flow 12 500 l/h, head 9 m.\nSpare seal kit: order number 88-4102.",
    ),
    "租赁合同.pdf": make.pdf(
        "房屋租赁合同\n合同编号：HT-2024-0917\n\n出租方：青禾置业有限公司\n承租方：远山文化传播有限公司\n\n"
        "第一条 租赁房屋位于海淀区学院路二十三号，\n建筑面积三百六十平方米。\n第二条 租赁期限为三年，自二〇二四年十月一日起算。",
        "第三条 月租金为人民币四万八千元，按季度支付，\n每季度首月五日前付清。\n第四条 承租方于签约当日支付两个月租金作为押金，\n"
        "合同期满且无欠费的，十日内无息退还。\n第五条 物业费、水电费由承租方承担。",
        "第六条 未经出租方书面同意，不得转租。\n第七条 任何一方提前解约，应提前六十日书面通知，\n并支付一个月租金的违约金。\n"
        "第八条 争议由房屋所在地人民法院管辖。\n第九条 本合同一式四份，双方各执两份。",
    ),
    "季度汇报.pptx": make.pptx(
        ("第三季度经营汇报", ["市场部 2024 年 10 月", "汇报人：孙悦"]),
        ("销售", ["营业收入 4,260 万元，同比增长 18%", "华东区占比 41%，首次超过华南区", "线上渠道占比升至 35%"]),
        ("客户", ["新增客户 326 家，流失 41 家", "客户满意度 92 分，投诉主要集中在物流延误"]),
        ("成本", ["原材料价格上涨导致毛利率下降 2.3 个百分点", "物流费用同比减少 120 万元"]),
        ("下季度计划", ["十一月推出会员体系", "在成都设立西南办事处", "招聘 15 名渠道经理"]),
        ("风险", ["主要芯片供应商交期延长到 20 周", "汇率波动影响出口报价"]),
    ),
    "家常菜.epub": make.epub(
        "家常菜谱",
        [
            ("红烧肉", ["五花肉一斤切块焯水。", "冰糖炒到焦糖色，下肉翻炒上色，加黄酒没过肉面，小火炖一个半小时，最后大火收汁。", "忌放水，全用黄酒味道更醇。"]),
            ("清蒸鲈鱼", ["鱼身两面划刀，抹盐和料酒腌十分钟。", "水开后上锅蒸八分钟，关火焖两分钟，倒掉盘中的腥水，淋蒸鱼豉油和热油。"]),
            ("麻婆豆腐", ["豆腐切丁用淡盐水焯一下不易碎。", "郫县豆瓣炒出红油，下牛肉末，加高汤和豆腐煮三分钟，分三次勾芡，撒花椒粉。"]),
            ("Apple pie", ["Rub 125 g of cold butter into 250 g of flour, add three spoons of iced water and chill the dough for an hour.", "Fill with sliced Bramley apples, sugar and cinnamon; bake at 190 degrees for 45 minutes."]),
            ("酸辣土豆丝", ["土豆切细丝，泡水洗去淀粉才会脆。", "热油爆香干辣椒，大火快炒一分钟，沿锅边淋醋。"]),
        ],
    ),
    "api.html": b"""<!DOCTYPE html><html><head><title>Ledger API</title><script>var x = 'secret';</script></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/docs">Docs</a></li></ul></nav>
<main><h1>Ledger API</h1><p>All requests go to <code>https://api.ledger.example/v2</code> and carry a bearer token.</p>
<h2>Rate limits</h2><p>Each token may send 600 requests per minute. Beyond that the server answers 429 with a
<code>Retry-After</code> header in seconds.</p>
<h2>Pagination</h2><p>Lists return at most 100 items. Pass the <code>next_cursor</code> of one answer as the
<code>cursor</code> of the following request.</p>
<h2>Errors</h2><table><tr><th>Code</th><th>Meaning</th></tr><tr><td>E1001</td><td>the account is frozen</td></tr>
<tr><td>E1002</td><td>insufficient funds</td></tr><tr><td>E2040</td><td>duplicate idempotency key</td></tr></table>
<h2>Webhooks</h2><p>Events are signed with HMAC-SHA256 over the raw body; compare the digest with the header
<code>X-Ledger-Signature</code>. Deliveries are retried for three days with growing pauses.</p>
<h2>Time zones</h2><p>Timestamps are in UTC and follow RFC 3339.</p></main>
<footer>Copyright Ledger Inc.</footer></body></html>""",
    "kickoff.eml": make.letter(
        "Kick-off of project Heron",
        "Maria Lindqvist <maria@example.com>",
        "Hello all,\n\nthanks for a good first meeting. What we agreed on:\n\n"
        "Tomasz builds the data pipeline and has a first version ready by 20 September.\n\n"
        "We stay with PostgreSQL; the idea of moving to a graph database was dropped because nobody in operations knows it.\n\n"
        "The weekly call is on Tuesdays at 14:00 in the room Aurora.\n\n"
        "The customer wants every report in German and English.\n\nThe budget is 85,000 euros; travel is not included.\n\nBest\nMaria",
    ),
    "analysis.ipynb": make.notebook(
        ("markdown", "# Bike counts\nThe counters stand on four bridges and report every fifteen minutes."),
        ("code", "import pandas as pd\ncounts = pd.read_csv('counts.csv', parse_dates=['time'])"),
        ("markdown", "## Cleaning\nValues above 900 per interval are sensor faults and are replaced by the median of the hour."),
        ("code", "def drop_outliers(frame, limit=900):\n    faulty = frame['count'] > limit\n    return frame.mask(faulty)"),
        ("markdown", "## Result\nRain reduces traffic by 38 percent on weekdays, but only by 12 percent on the Harbour bridge, "
         "where most riders are commuters without a car."),
        ("markdown", "## Open questions\nThe gap in March comes from the roadworks; it should be left out of the yearly mean."),
    ),
    "古镇.odt": make.odt(
        (1, "云溪古镇"),
        "云溪古镇始建于南宋绍兴年间，因一条自西向东穿镇而过的溪流得名。",
        (2, "桥"),
        "镇上现存古桥十一座，最长的永济桥建于明万历三年，为七孔石拱桥，全长六十八米。",
        (2, "民居"),
        "民居多为两层木楼，一楼临街作店铺，二楼住人。沈家大院是其中最大的一座，有房屋九十九间半，一九五六年列为文物保护单位。",
        (2, "物产"),
        "当地以油纸伞和桂花糕闻名。油纸伞要经过七十二道工序，伞面刷三遍桐油。",
        (2, "节庆"),
        "每年农历三月十五举行龙船会，比赛在永济桥下的河段进行，由东西两街各出六条船。",
        (2, "交通"),
        "距最近的高铁站二十六公里，旅游专线每四十分钟一班，末班车为晚上七点半。",
    ),
    "stations.csv": ("station,line,opened,daily passengers,lift\n" + "\n".join(
        f"{name},{line},{year},{count},{lift}" for name, line, year, count, lift in [
            ("Ashford Road", "Green", 1987, 11250, "yes"), ("Beacon Hill", "Green", 1991, 8420, "no"),
            ("Castle Gate", "Red", 1974, 32800, "yes"), ("Dock Street", "Red", 1974, 15400, "no"),
            ("Elm Park", "Blue", 2009, 5210, "yes"), ("Foundry", "Blue", 2012, 7340, "yes"),
            ("Granary Square", "Green", 2018, 9985, "yes"), ("Hollow Lane", "Red", 1979, 2110, "no"),
        ]
    )).encode(),
    "settings.json": b"""{"server": {"host": "0.0.0.0", "port": 8443, "workers": 6},
 "cache": {"backend": "redis", "ttl_seconds": 900, "max_memory": "2gb"},
 "mail": {"smtp": "smtp.example.net", "from": "noreply@example.net", "retries": 4},
 "features": {"beta_search": true, "legacy_login": false}}""",
    "scheduler.py": b'''"""Runs jobs at given times."""

import heapq


class Scheduler:
    """Keeps the jobs in a heap by their next time."""

    def __init__(self, clock):
        self._clock = clock
        self._heap = []

    def add(self, job, delay):
        heapq.heappush(self._heap, (self._clock() + delay, job))


def exponential_backoff(attempt, base=0.5, cap=60.0):
    """Return the pause before the next attempt: doubled each time, at most `cap` seconds."""
    return min(base * 2 ** attempt, cap)


def parse_cron(text):
    """Read five fields: minute, hour, day of month, month, day of week."""
    fields = text.split()
    if len(fields) != 5:
        raise ValueError(text)
    return fields
''',
    "faq.jsonl": "\n".join([
        '{"question": "How long do refunds take?", "answer": "Refunds reach your card within seven business days."}',
        '{"question": "Can I change the delivery address?", "answer": "Yes, until the parcel leaves our warehouse in Rotterdam."}',
        '{"question": "Do you ship to islands?", "answer": "Yes, for a surcharge of 12 euros."}',
        '{"question": "积分有效期多久？", "answer": "积分自获得之日起两年内有效，过期自动清零。"}',
        '{"question": "怎样开发票？", "answer": "在订单详情页点击申请发票，电子发票在二十四小时内发送到邮箱。"}',
    ]).encode(),
}  # fmt: skip

QUESTIONS: list[tuple[str, str, str]] = [
    # question, file, what the passage holds
    ("核心工作时间是几点到几点？", "员工手册.md", "上午十点至下午四点"),
    ("周末加班给钱还是调休？", "员工手册.md", "周末加班优先安排调休"),
    ("试用期能不能在家办公", "员工手册.md", "试用期员工不适用"),
    ("年假", "员工手册.md", "带薪年假"),
    ("工作五年以后有多少天年假？", "员工手册.md", "满五年为十五天"),
    ("生病请假需要什么证明", "员工手册.md", "诊断证明"),
    ("陪产假几天", "员工手册.md", "陪产假十五天"),
    ("出差住酒店每晚最多报销多少钱？", "员工手册.md", "每晚五百元"),
    ("发票要在多少天内交给财务", "员工手册.md", "三十天内提交"),
    ("电脑丢了打哪个电话", "员工手册.md", "8010"),
    ("多久要换一次密码？", "员工手册.md", "每九十天更换"),
    ("How many days of 年假 after 五年?", "员工手册.md", "满五年为十五天"),
    ("路由器怎么恢复出厂设置", "常见问题.txt", "RESET 孔十秒"),
    ("无线信号不稳定", "常见问题.txt", "同频干扰"),
    ("R50 能连多少台", "常见问题.txt", "128 台"),
    ("被雷劈坏了保修吗", "常见问题.txt", "雷击不在保修"),
    ("红灯一直亮", "常见问题.txt", "没有拿到上网地址"),
    ("升级固件要几分钟", "常见问题.txt", "四分钟"),
    ("访客 WiFi 可以看到内网吗", "常见问题.txt", "与内网隔离"),
    ("旅行路由器多少钱", "价目表.xlsx", "M10 | 旅行便携路由器 | 129"),
    ("R20-B 的库存", "价目表.xlsx", "R20-B | 家用三频路由器 | 459 | 310"),
    ("哪款交换机支持 PoE", "价目表.xlsx", "S24-P"),
    ("48 口交换机的价格", "价目表.xlsx", "8800"),
    ("金牌维保一年多少钱", "价目表.xlsx", "3600"),
    ("price of S8-G", "价目表.xlsx", "189"),
    ("柴油发电机多大功率？能撑多久？", "机房改造方案.docx", "400 千瓦"),
    ("机房送风温度", "机房改造方案.docx", "二十二摄氏度"),
    ("灭火用什么气体", "机房改造方案.docx", "七氟丙烷"),
    ("赵敏负责哪个阶段", "机房改造方案.docx", "管线施工"),
    ("割接什么时候结束", "机房改造方案.docx", "6月10日"),
    ("机房改造一共花多少钱", "机房改造方案.docx", "三百二十万元"),
    ("UPS 电池能用多长时间", "机房改造方案.docx", "不少于三十分钟"),
    ("Can I use maps without internet connection?", "release-notes.md", "Offline maps"),
    ("NAV-3381", "release-notes.md", "200 waypoints"),
    ("which versions were affected by CVE-2023-41777", "release-notes.md", "4.1.0 to 4.1.2"),
    ("lowest supported Android", "release-notes.md", "minimum Android version"),
    ("why is the battery draining in the background", "release-notes.md", "battery drain"),
    ("sharing my location with friends", "release-notes.md", "Share your position"),
    ("How deep may the pump be immersed?", "pump-manual.pdf", "8 m"),
    ("when does the float switch start the motor", "pump-manual.pdf", "55 cm"),
    ("running the pump dry", "pump-manual.pdf", "thirty"),
    ("the motor hums but doesn't turn", "pump-manual.pdf", "impeller is blocked"),
    ("order number of the seal kit", "pump-manual.pdf", "88-4102"),
    ("how often should I clean the filter?", "pump-manual.pdf", "every three months"),
    ("HT-2024-0917", "租赁合同.pdf", "HT-2024-0917"),
    ("租的房子在什么地方", "租赁合同.pdf", "海淀区学院路"),
    ("每个月房租多少", "租赁合同.pdf", "四万八千元"),
    ("押金什么时候退还", "租赁合同.pdf", "十日内无息退还"),
    ("提前解除合同要赔多少违约金", "租赁合同.pdf", "一个月租金的违约金"),
    ("可以转租吗", "租赁合同.pdf", "不得转租"),
    ("第三季度营业收入", "季度汇报.pptx", "4,260 万元"),
    ("客户投诉什么最多", "季度汇报.pptx", "物流延误"),
    ("毛利率为什么下降", "季度汇报.pptx", "原材料价格上涨"),
    ("西南办事处设在哪个城市", "季度汇报.pptx", "成都"),
    ("芯片交期", "季度汇报.pptx", "20 周"),
    ("红烧肉炖多久", "家常菜.epub", "一个半小时"),
    ("土豆丝怎么才脆", "家常菜.epub", "洗去淀粉"),
    ("蒸鱼几分钟", "家常菜.epub", "蒸八分钟"),
    ("豆腐怎样不碎", "家常菜.epub", "不易碎"),
    ("temperature for baking the apple pie", "家常菜.epub", "190 degrees"),
    ("requests per minute allowed", "api.html", "600 requests"),
    ("what does E2040 mean", "api.html", "duplicate idempotency key"),
    ("how do I get the next page of a list", "api.html", "next_cursor"),
    ("verify webhook signature", "api.html", "HMAC-SHA256"),
    ("Who builds the data pipeline?", "kickoff.eml", "Tomasz"),
    ("why not a graph database", "kickoff.eml", "nobody in operations"),
    ("budget of project Heron", "kickoff.eml", "85,000 euros"),
    ("when is the weekly meeting", "kickoff.eml", "Tuesdays at 14:00"),
    ("effect of rain on bicycle traffic", "analysis.ipynb", "38 percent"),
    ("drop_outliers", "analysis.ipynb", "def drop_outliers"),
    ("what happens to faulty sensor values", "analysis.ipynb", "replaced by the median"),
    ("永济桥有多长", "古镇.odt", "六十八米"),
    ("沈家大院有多少间房", "古镇.odt", "九十九间半"),
    ("桐油", "古镇.odt", "三遍桐油"),
    ("龙船比赛什么时候举行", "古镇.odt", "农历三月十五"),
    ("末班车几点", "古镇.odt", "七点半"),
    ("When was Elm Park opened?", "stations.csv", "Elm Park | Blue | 2009"),
    ("does Dock Street have a lift", "stations.csv", "Dock Street | Red | 1974 | 15400 | no"),
    ("cache ttl seconds", "settings.json", "cache.ttl_seconds: 900"),
    ("which port does the server listen on", "settings.json", "server.port: 8443"),
    ("exponential_backoff cap", "scheduler.py", "def exponential_backoff"),
    ("parse cron fields", "scheduler.py", "def parse_cron"),
    ("how long until I get my refund", "faq.jsonl", "seven business days"),
    ("积分会过期吗", "faq.jsonl", "两年内有效"),
    ("电子发票怎么申请", "faq.jsonl", "申请发票"),
]


def recall(folder: Path, *, verbose: bool = True) -> float:
    """Return recall@3 over the documents, written to `folder`."""
    for name, data in FILES.items():
        (folder / name).write_bytes(data)
    collection = collections.find(str(folder))
    outcome = update.update(collection)
    assert outcome.read == len(FILES), outcome
    found = 0
    with collection.index() as index:
        passages = index.count()[1]
        for question, name, needle in QUESTIONS:
            hits = index.search(question, 3)
            good = any(Path(hit.origin).name == name and needle in hit.passage.text for hit in hits)
            found += good
            if not good and verbose:
                print(
                    f"missed: {question}  ->  {[(Path(h.origin).name, h.passage.text[:30], h.score) for h in hits]}"
                )
    if verbose:
        print(f"{len(FILES)} documents, {passages} passages, {len(QUESTIONS)} questions")
        print(f"recall@3: {found / len(QUESTIONS):.3f}")
    return found / len(QUESTIONS)


def zipf(random_: random.Random, count: int) -> int:
    """Return a rank below `count`: the second word half as often as the first, as in texts of people."""
    return min(int((count + 1) ** random_.random()), count) - 1


def text_of(random_: random.Random, words: list[str], characters: int) -> str:
    """Return sentences of words, the common ones more often."""
    said: list[str] = []
    length = 0
    while length < characters:
        sentence = "".join(words[zipf(random_, len(words))] for _ in range(12)) + "。"
        said.append(sentence)
        length += len(sentence)
    return "".join(said)


def speed(folder: Path, passages: int) -> None:
    """Print how long it takes to index `passages`, to ask, and to read one changed file again."""
    random_ = random.Random(1)
    words = ["".join(chr(random_.randrange(0x4E00, 0x9000)) for _ in range(2)) for _ in range(30_000)]
    per_file = 100
    for number in range(passages // per_file):
        paragraphs = (text_of(random_, words, 390) for _ in range(per_file))
        (folder / f"{number}.txt").write_text("\n\n".join(paragraphs), "utf-8")
    collection = collections.find(str(folder))
    with Stopwatch() as indexed:
        update.update(collection)
    with collection.index() as index:
        count = index.count()[1]
    watches = []
    for _ in range(200):
        question = "".join(words[zipf(random_, len(words))] for _ in range(10))
        with Stopwatch() as watch, collection.index() as index:
            index.search(question, 5)
        watches.append(watch)
    paragraphs = (text_of(random_, words, 390) for _ in range(per_file))
    (folder / "0.txt").write_text("\n\n".join(paragraphs), "utf-8")
    with Stopwatch() as changed:
        update.update(collection)
    size = collection.index_path.stat().st_size
    print(f"{count} passages, {size / 1e6:.0f} MB; seconds by the clock (of processor time):")
    print(f"index: {indexed}")
    for name, at in (("p50", 9), ("p95", 18)):
        seconds = (quantiles(values, n=20)[at] for values in zip(*(w.seconds for w in watches), strict=True))
        print("query {}: {:.4f} ({:.4f})".format(name, *seconds))
    print(f"one changed file of {per_file} passages: {changed}")


class Stopwatch:
    """Measures by the clock, and the processor time: other programs take none of that."""

    def __enter__(self) -> Stopwatch:
        self._began = time.perf_counter(), time.process_time()
        return self

    def __exit__(self, *_error: object) -> None:
        now = time.perf_counter(), time.process_time()
        self.seconds = now[0] - self._began[0], now[1] - self._began[1]

    def __str__(self) -> str:
        return "{:.2f} ({:.2f})".format(*self.seconds)


LARGEST = 48
"""Megabytes of one file: about what is read of a text as a whole."""


def memory(folder: Path, megabytes: int) -> None:
    """Print how much memory indexing a folder of `megabytes` takes beyond what the program has."""
    random_ = random.Random(2)
    words = ["".join(chr(random_.randrange(0x4E00, 0x9000)) for _ in range(2)) for _ in range(3000)]
    page = "\n\n".join(text_of(random_, words, 1000) for _ in range(330)).encode()  # about a megabyte
    for at in range(0, megabytes, LARGEST):
        with open(folder / f"{at}.txt", "wb") as file:
            for _ in range(min(LARGEST, megabytes - at)):
                file.write(page)
    before = psutil.Process().memory_info().rss / 1024
    with Stopwatch() as watch:
        update.update(collections.find(str(folder)))
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    other = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    print(
        f"{megabytes} MB of text: {watch} s, {more:.0f} MB of memory more and {other:.0f} MB of the process that reads"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recall", action="store_true")
    parser.add_argument("--speed", type=int, metavar="PASSAGES", default=0)
    parser.add_argument("--memory", type=int, metavar="MB", default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ["GLMTUI_HOME"] = f"{home}/home"
        for name, work in (
            ("recall", recall if arguments.recall or not (arguments.speed or arguments.memory) else None),
            ("speed", (lambda folder: speed(folder, arguments.speed)) if arguments.speed else None),
            ("memory", (lambda folder: memory(folder, arguments.memory)) if arguments.memory else None),
        ):
            if work is not None:
                folder = Path(home, name)
                folder.mkdir()
                work(folder)


if __name__ == "__main__":
    main()
