"""Django's ORM: models as for plain columns, on a table that SQL has made."""
import os
import django
from django.conf import settings
from django.db import connection, connections, models, transaction
from django.db.models import Avg, Count, F, Max, Min, Q, Value
from django.db.models.functions import Concat, ExtractYear, Length, Upper
from common import COLUMNS, HANAKO, NOBODY, ORDERED, PATIENTS, TARO, fails, same


def database(**more):
    return {'ENGINE': 'django.db.backends.postgresql', 'HOST': os.environ['PGHOST'],
            'PORT': os.environ['PGPORT'], 'NAME': os.environ['PGDATABASE'], **more}


settings.configure(USE_TZ=True, TIME_ZONE='UTC', INSTALLED_APPS=[], DATABASES={
    'default': database(USER='ehr', OPTIONS={'options': '-c phi.clinic=hakodate'}),
    'hakodate': database(USER='ehr_hakodate'),
    'shared': database(USER='ehr'),
    'dba': database(USER='dba')})
django.setup()


class Patient(models.Model):
    id = models.BigAutoField(primary_key=True)
    chart_no = models.CharField(max_length=20, unique=True)
    insurance_no = models.CharField(max_length=20, null=True)
    name = models.CharField(max_length=100)
    birth_date = models.DateField(null=True)
    seen_at = models.DateTimeField(null=True)
    weight = models.DecimalField(max_digits=8, decimal_places=3, null=True)
    visits = models.BigIntegerField(null=True)
    smoker = models.BooleanField(null=True)
    record = models.JSONField(null=True)
    photo = models.BinaryField(null=True)

    class Meta:
        app_label, db_table, managed = 'clients', 'patient', False


def row_of(patient):
    return tuple(bytes(value) if isinstance(value, memoryview) else value
                 for value in (getattr(patient, column) for column in COLUMNS))


def names(*conditions, **more):
    return list(Patient.objects.filter(*conditions, **more).order_by('name').values_list('name', flat=True))


for row in PATIENTS:
    Patient.objects.create(**dict(zip(COLUMNS, row)))
same([row_of(patient) for patient in Patient.objects.order_by('id')], PATIENTS)

# Look-ups.
same(names(), ORDERED)
same(Patient.objects.get(name=HANAKO[2], birth_date=HANAKO[3]).chart_no, 'H-1')
same(names(name__in=[HANAKO[2], TARO[2]]), ORDERED[:2])
for lookup, value in (('startswith', '佐藤'), ('istartswith', '佐藤'), ('contains', '藤'), ('regex', '^佐.*郎?')):
    same(names(**{'name__' + lookup: value}), ORDERED[:2])
same(names(name__iexact=TARO[2]), [TARO[2]])
same(names(birth_date__isnull=True), [NOBODY[2]])
same(names(birth_date__range=(HANAKO[3], TARO[3])), ORDERED[:2])
same(names(birth_date__year=2024), [TARO[2]])
same(names(seen_at__date=HANAKO[4].date(), seen_at__lte=HANAKO[4]), [HANAKO[2]])
same(names(Q(weight__gt=0) | Q(visits=-1), ~Q(name=HANAKO[2])), [TARO[2]])
same(names(smoker=True), [TARO[2]])
same(names(record__n=1.5), [HANAKO[2]])
same(names(record__has_key='薬'), [HANAKO[2]])
same(names(photo=HANAKO[9]), [HANAKO[2]])
same(Patient.objects.aggregate(first=Min('birth_date'), last=Max('name'), mean=Avg('weight'), visits=Avg('visits')),
     {'first': HANAKO[3], 'last': NOBODY[2], 'mean': (HANAKO[5] + TARO[5]) / 2, 'visits': 1499999999.5})
same(list(Patient.objects.annotate(year=ExtractYear('birth_date'), long=Length('name'))
          .filter(year__isnull=False).order_by('-year').values_list('year', 'long')), [(2024, 5), (1950, 5)])
same(list(Patient.objects.values('name').annotate(n=Count('id')).filter(n=1).order_by('name')
          .values_list('name', flat=True)), ORDERED)
same(list(Patient.objects.annotate(whole=Concat('name', Value(' '), Upper('chart_no')))
          .filter(visits=-1).values_list('whole', flat=True)), [TARO[2] + ' H-2'])
same(list(Patient.objects.order_by('birth_date').distinct().values_list('birth_date', flat=True)),
     [HANAKO[3], TARO[3], None])
with transaction.atomic(), connection.cursor() as cursor:
    cursor.execute('SET LOCAL enable_seqscan = off')
    assert 'Index Cond' in Patient.objects.filter(name=HANAKO[2]).explain()
    assert 'Index Cond' in Patient.objects.filter(birth_date=HANAKO[3]).explain()

# Changes.
hanako, made = Patient.objects.get_or_create(name=HANAKO[2], defaults={'chart_no': 'X'})
same((hanako.chart_no, made), ('H-1', False))
same(Patient.objects.update_or_create(chart_no='U-1', defaults={'name': '鈴木'})[1], True)
same(Patient.objects.update_or_create(chart_no='U-1', defaults={'name': '木村'})[0].name, '木村')
hanako.birth_date, hanako.record = TARO[3], ['changed']
hanako.save()
hanako.refresh_from_db()
same((hanako.name, hanako.birth_date, hanako.record), (HANAKO[2], TARO[3], ['changed']))
same(Patient.objects.filter(name=HANAKO[2]).update(birth_date=HANAKO[3], visits=F('visits') + 1), 1)
same(Patient.objects.get(name=HANAKO[2]).visits, HANAKO[6] + 1)
with transaction.atomic():
    fails('23505', lambda: transaction.atomic()(Patient.objects.create)(chart_no='H-1', name='twice'))
    fails('23P01', lambda: transaction.atomic()(Patient.objects.create)(
        chart_no='X', insurance_no=HANAKO[1], name='twice'))
made = [Patient(chart_no=f'V-{n}', name=f'患者 {n}', birth_date=TARO[3]) for n in range(500)]
Patient.objects.bulk_create(made)
Patient.objects.bulk_create([Patient(chart_no='V-1', name='again')], ignore_conflicts=True)
for patient in made:
    patient.name = '患者'
Patient.objects.bulk_update(made, ['name'])
same(Patient.objects.filter(name='患者', birth_date=TARO[3]).count(), 500)
same(sum(1 for _ in Patient.objects.filter(name='患者').iterator(chunk_size=100)), 500)
same(Patient.objects.filter(name='患者').delete()[0], 500)
with transaction.atomic():
    Patient.objects.select_for_update().get(name=NOBODY[2]).delete()
same(names(), ORDERED[:2] + ['木村'])

# Sessions: the role's clinic, one clinic for each transaction, the DBA.
same(Patient.objects.using('hakodate').get(name=TARO[2]).birth_date, TARO[3])
for clinic, count in (('hakodate', 3), ('boston', 0)):
    with transaction.atomic(using='shared'), connections['shared'].cursor() as cursor:
        cursor.execute("SELECT set_config('phi.clinic', %s, true)", [clinic])
        same(Patient.objects.using('shared').count(), count)
same(Patient.objects.using('shared').count(), 0)
fails('42501', lambda: Patient.objects.using('shared').create(chart_no='X', name='no clinic'))
assert Patient.objects.using('dba').values_list('name', flat=True)[0].startswith('phi1:')

print('Django', django.get_version())
