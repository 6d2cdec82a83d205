#!/usr/bin/perl
# Writes demo/patients.csv: 600 invented patients of four clinics, half of them
# with Japanese names, kana, addresses and insurance numbers.
#
#   tools/generate_patients.pl [count] [seed] > demo/patients.csv
#
# The generator brings its own random numbers, so that the same seed gives the
# same bytes on every machine and with every version of Perl.
use strict;
use warnings;
use utf8;
use integer;

binmode STDOUT, ':encoding(UTF-8)';

my $count = shift // 600;
my $state = shift // 20240401;

# Park and Miller's minimal standard generator: exact in 64-bit integers.
sub below
{
	my ($limit) = @_;
	$state = $state * 48271 % 2147483647;
	return ($state / 8) % $limit;
}

sub pick
{
	return $_[ below(scalar @_) ];
}

sub digits
{
	my ($n) = @_;
	return join '', map { below(10) } 1 .. $n;
}

# Each name is written "kanji kana", so that the two always belong together.
my @surnames = map { [ split / / ] } split /\s*,\s*/, <<'END' =~ s/\s+\z//r;
佐藤 サトウ, 鈴木 スズキ, 高橋 タカハシ, 田中 タナカ, 伊藤 イトウ, 渡辺 ワタナベ,
山本 ヤマモト, 中村 ナカムラ, 小林 コバヤシ, 加藤 カトウ, 吉田 ヨシダ, 山田 ヤマダ,
佐々木 ササキ, 山口 ヤマグチ, 松本 マツモト, 井上 イノウエ, 木村 キムラ, 林 ハヤシ,
斎藤 サイトウ, 清水 シミズ, 山崎 ヤマザキ, 森 モリ, 池田 イケダ, 橋本 ハシモト,
阿部 アベ, 石川 イシカワ, 山下 ヤマシタ, 中島 ナカジマ, 石井 イシイ, 小川 オガワ,
前田 マエダ, 岡田 オカダ, 長谷川 ハセガワ, 藤田 フジタ, 後藤 ゴトウ, 近藤 コンドウ,
村上 ムラカミ, 遠藤 エンドウ, 青木 アオキ, 坂本 サカモト, 福田 フクダ, 太田 オオタ,
西村 ニシムラ, 藤井 フジイ, 岡本 オカモト, 三浦 ミウラ, 中野 ナカノ, 原田 ハラダ,
小野 オノ, 竹内 タケウチ, 髙田 タカダ, 渡邉 ワタナベ, 五十嵐 イガラシ, 小笠原 オガサワラ
END
my @men = map { [ split / / ] } split /\s*,\s*/, <<'END' =~ s/\s+\z//r;
大翔 ヒロト, 蓮 レン, 悠真 ユウマ, 陽翔 ハルト, 健一 ケンイチ, 翔太 ショウタ,
大輔 ダイスケ, 拓也 タクヤ, 直樹 ナオキ, 和也 カズヤ, 誠 マコト, 清 キヨシ,
茂 シゲル, 隆 タカシ, 正雄 マサオ, 三郎 サブロウ, 一郎 イチロウ, 浩二 コウジ,
康弘 ヤスヒロ, 雄大 ユウダイ, 亮介 リョウスケ, 慎太郎 シンタロウ, 秀樹 ヒデキ, 博之 ヒロユキ
END
my @women = map { [ split / / ] } split /\s*,\s*/, <<'END' =~ s/\s+\z//r;
陽葵 ヒマリ, 結菜 ユイナ, 咲良 サクラ, 美咲 ミサキ, 愛 アイ, 葵 アオイ,
恵子 ケイコ, 幸子 サチコ, 和子 カズコ, 洋子 ヨウコ, 久美子 クミコ, 由美子 ユミコ,
真由美 マユミ, 明美 アケミ, 智子 トモコ, 裕子 ユウコ, 千代 チヨ, 節子 セツコ,
花子 ハナコ, 文江 フミエ, 麻衣 マイ, 彩香 アヤカ, 七海 ナナミ, 優奈 ユウナ
END
my @western_surnames = qw(
  Abernathy Ashworth Bellweather Blackwood Brennan Caldwell Castellano Chambers
  Dalgaard Delacroix Donnelly Eriksson Fairbanks Fitzgerald Gallagher Hartmann
  Holloway Iversen Jankowski Kavanagh Kowalczyk Lindqvist MacAllister Marchetti
  Montgomery Nakagawa-Reed Novakova O'Connell O'Shaughnessy Pemberton Quigley
  Ramirez Rasmussen Rosenthal Santangelo Schäfer Sørensen Strickland Thibodeaux
  Underhill Valderrama Vandenberg Wainwright Whitfield Yamauchi Zielinski);
my @western_men = qw(
  Aaron Benjamin Christopher Dominic Edward François Gabriel Harrison Isaac
  Jonathan Kenneth Leonard Matthew Nathaniel Oliver Patrick Quentin Raymond
  Sebastian Theodore Vincent William);
my @western_women = qw(
  Abigail Beatrice Charlotte Deborah Eleanor Françoise Gwendolyn Henrietta Isabel
  Josephine Katherine Lillian Margaret Natalie Olivia Penelope Rebecca Samantha
  Theresa Ursula Victoria Winifred);

# [prefecture and city, dialling code, districts]
my @japanese_places = (
	[ '北海道函館市',   '0138', qw(五稜郭町 本町 松風町 末広町 湯川町 美原) ],
	[ '北海道札幌市',   '011',  qw(中央区大通西 北区北七条西 豊平区平岸 白石区本通) ],
	[ '北海道旭川市',   '0166', qw(宮下通 神楽岡 東光 末広) ],
	[ '青森県青森市',   '017',  qw(新町 浜田 長島 浪館) ],
	[ '宮城県仙台市',   '022',  qw(青葉区国分町 太白区長町 泉区泉中央) ],
	[ '東京都千代田区', '03',   qw(神田神保町 丸の内 麹町 九段北) ],
	[ '大阪府大阪市',   '06',   qw(北区梅田 中央区難波 天王寺区上本町) ]);
my @western_places = (
	[ 'Boston, MA 02118', '617', 'Tremont Street', 'Harrison Avenue', 'Canal Row' ],
	[ 'Cambridge, MA 02139', '617', 'Prospect Street', 'Inman Square', 'Brookline Way' ],
	[ 'Worcester, MA 01608', '508', 'Shrewsbury Street', 'Elm Park', 'Mill Lane' ],
	[ 'Peabody, MA 01960', '978', 'Lowell Street', 'Orchard Circle' ]);

# [Japanese, English]: what a chart says, and a remark that goes with it
my @diagnoses = (
	[ '本態性高血圧症', 'Essential hypertension', '家庭血圧を毎朝記録', 'Home blood pressure every morning' ],
	[ '2型糖尿病', 'Type 2 diabetes mellitus', 'HbA1c 7.2%、食事指導', 'HbA1c 7.2%, diet counselling' ],
	[ '気管支喘息', 'Bronchial asthma', '吸入手技を確認', 'Inhaler technique checked' ],
	[ '脂質異常症', 'Hyperlipidaemia', 'スタチン継続', 'Statin continued' ],
	[ '変形性膝関節症', 'Osteoarthritis of the knee', 'ヒアルロン酸注射3回目', 'Third hyaluronate injection' ],
	[ '鉄欠乏性貧血', 'Iron deficiency anaemia', 'フェリチン再検', 'Repeat ferritin' ],
	[ '胃食道逆流症', 'Gastro-oesophageal reflux', '内視鏡予約', 'Endoscopy booked' ],
	[ 'うつ病エピソード', 'Depressive episode', '次回は家族同伴', 'Comes with family next time' ],
	[ '肺炎球菌性肺炎', 'Pneumococcal pneumonia', '入院を勧めた', 'Admission advised' ]);
my @pregnancy = ( '妊娠、初診', 'Normal pregnancy, first visit', '葉酸を開始', 'Folic acid started' );

my @allergens = (
	[ 'ペニシリン', 'penicillin' ], [ 'そば', 'buckwheat' ], [ '卵', 'egg' ],
	[ 'スギ花粉', 'cedar pollen' ], [ '造影剤', 'contrast medium' ]);
my @reactions = ([ '蕁麻疹', 'hives' ], [ 'アナフィラキシー', 'anaphylaxis' ], [ '発疹', 'rash' ]);

# Statutory insurer numbers end in a check digit: weights 2,1,2,1,… from the right.
sub insurer_number
{
	my $number = '01' . digits(5);
	my ($sum, $weight) = (0, 2);
	for my $digit (reverse split //, $number)
	{
		my $product = $digit * $weight;
		$sum += $product / 10 + $product % 10;
		$weight = 3 - $weight;
	}
	return $number . (10 - $sum % 10) % 10;
}

sub birth_date
{
	# No day after the 28th: every date exists.
	return sprintf '%04d-%02d-%02d', 1928 + below(95), 1 + below(12), 1 + below(28);
}

# A pregnancy now and then, where there can be one.
sub diagnosis
{
	my ($gender, $birth_date) = @_;
	my $fertile = $gender eq 'female' && $birth_date ge '1980' && $birth_date lt '2006';
	return $fertile && !below(4) ? \@pregnancy : pick(@diagnoses);
}

sub allergies
{
	my ($language) = @_;
	return '[]' if below(3);
	return sprintf '[{"substance": "%s", "reaction": "%s"}]',
	  pick(@allergens)->[$language], pick(@reactions)->[$language];
}

sub japanese_patient
{
	my $gender = pick('male', 'female');
	my $surname = pick(@surnames);
	my $given = $gender eq 'male' ? pick(@men) : pick(@women);
	my ($city, $dial, @districts) = @{ pick(@japanese_places) };
	my $local = sprintf '%s-%s', digits(9 - length($dial) - 3), digits(4);
	my $birth_date = birth_date();
	my $diagnosis = diagnosis($gender, $birth_date);
	return (
		$surname->[0], $given->[0], $surname->[1], $given->[1],
		$gender, $birth_date, insurer_number(), digits(8), "$dial-$local",
		$city . pick(@districts) . join('-', 1 + below(9), 1 + below(30), 1 + below(20)),
		$diagnosis->[0], $diagnosis->[2], allergies(0));
}

sub western_patient
{
	my $gender = pick('male', 'female');
	my $given = $gender eq 'male' ? pick(@western_men) : pick(@western_women);
	my ($city, $dial, @streets) = @{ pick(@western_places) };
	my $birth_date = birth_date();
	my $diagnosis = diagnosis($gender, $birth_date);
	return (
		pick(@western_surnames), $given, '', '',
		$gender, $birth_date, '', '999-' . digits(2) . '-' . digits(4),
		"$dial-555-" . digits(4), join(' ', 1 + below(900), pick(@streets)) . ", $city",
		$diagnosis->[1], $diagnosis->[3], allergies(1));
}

sub csv_line
{
	return join(',', map { /[",\n]/ ? '"' . s/"/""/gr . '"' : $_ } @_) . "\n";
}

print csv_line(
	qw(patient_no clinic family given family_kana given_kana gender birth_date
	  insurer_no insurance_no phone address diagnosis note allergies));
for my $n (1 .. $count)
{
	my @patient =
	  $n % 2
	  ? (pick('hakodate', 'sapporo'), japanese_patient())
	  : (pick('boston', 'worcester'), western_patient());
	print csv_line(sprintf('P%05d', $n), @patient);
}
