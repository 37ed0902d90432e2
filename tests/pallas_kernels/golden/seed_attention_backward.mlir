// 8 warps, 2 stages
module @seed_attention_backward {
  tt.func public @seed_attention_backward(%arg0: !tt.ptr<i32> {tt.divisibility = 32 : i32}, %arg1: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg2: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg3: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg4: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg5: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg6: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg7: !tt.ptr<f32> {tt.divisibility = 32 : i32}, %arg8: !tt.ptr<bf16> {tt.divisibility = 32 : i32}, %arg9: !tt.ptr<bf16> {tt.divisibility = 32 : i32}) {
    %cst = arith.constant dense<0.693147182> : tensor<64x128xf32>
    %cst_0 = arith.constant dense<0.693147182> : tensor<128x128xf32>
    %cst_1 = arith.constant dense<1024> : tensor<128xi32>
    %cst_2 = arith.constant dense<0.000000e+00> : tensor<128x128xf32>
    %cst_3 = arith.constant dense<1.000000e+00> : tensor<128x64xf32>
    %cst_4 = arith.constant dense<0.000000e+00> : tensor<1x64xf32>
    %cst_5 = arith.constant dense<-1.000000e+30> : tensor<128x64xf32>
    %cst_6 = arith.constant dense<0.000000e+00> : tensor<128x64xf32>
    %cst_7 = arith.constant dense<0.000000e+00> : tensor<128x128xbf16>
    %cst_8 = arith.constant dense<128> : tensor<128x128xi32>
    %cst_9 = arith.constant dense<512> : tensor<128x128xi32>
    %cst_10 = arith.constant dense<524288> : tensor<128x128xi32>
    %cst_11 = arith.constant dense<0.000000e+00> : tensor<64x128xf32>
    %cst_12 = arith.constant dense<0.000000e+00> : tensor<64xf32>
    %cst_13 = arith.constant dense<256> : tensor<64xi32>
    %cst_14 = arith.constant dense<0.000000e+00> : tensor<64x128xbf16>
    %cst_15 = arith.constant dense<128> : tensor<64x128xi32>
    %cst_16 = arith.constant dense<512> : tensor<64x128xi32>
    %cst_17 = arith.constant dense<32768> : tensor<64x128xi32>
    %cst_18 = arith.constant dense<64> : tensor<64xi32>
    %c8_i32 = arith.constant 8 : i32
    %c127_i32 = arith.constant 127 : i32
    %c128_i32 = arith.constant 128 : i32
    %c0_i32 = arith.constant 0 : i32
    %c1_i32 = arith.constant 1 : i32
    %0 = tt.get_program_id y : i32
    %1 = tt.get_program_id z : i32
    %2 = tt.addptr %arg0, %1 : !tt.ptr<i32>, i32
    %3 = tt.load %2 : !tt.ptr<i32>
    %4 = arith.addi %3, %c127_i32 : i32
    %5 = arith.divsi %4, %c128_i32 : i32
    %6 = arith.cmpi sgt, %4, %c0_i32 : i32
    %7 = arith.extui %6 : i1 to i32
    %8 = arith.cmpi slt, %4, %c0_i32 : i32
    %9 = arith.extui %8 : i1 to i32
    %10 = arith.subi %7, %9 : i32
    %11 = arith.cmpi ne, %10, %c1_i32 : i32
    %12 = arith.remsi %4, %c128_i32 : i32
    %13 = arith.cmpi ne, %12, %c0_i32 : i32
    %14 = arith.andi %11, %13 : i1
    %15 = arith.subi %5, %c1_i32 : i32
    %16 = arith.select %14, %15, %5 : i32
    %17 = arith.maxsi %16, %c0_i32 : i32
    %18 = arith.minsi %17, %c8_i32 : i32
    %19 = tt.make_range {end = 64 : i32, start = 0 : i32} : tensor<64xi32>
    %20 = arith.cmpi slt, %19, %cst_18 : tensor<64xi32>
    %21 = tt.expand_dims %20 {axis = 1 : i32} : tensor<64xi1> -> tensor<64x1xi1>
    %22 = tt.broadcast %21 : tensor<64x1xi1> -> tensor<64x128xi1>
    %23 = tt.splat %1 : i32 -> tensor<64x128xi32>
    %24 = arith.muli %23, %cst_17 : tensor<64x128xi32>
    %25 = tt.expand_dims %19 {axis = 1 : i32} : tensor<64xi32> -> tensor<64x1xi32>
    %26 = tt.broadcast %25 : tensor<64x1xi32> -> tensor<64x128xi32>
    %27 = arith.muli %26, %cst_16 : tensor<64x128xi32>
    %28 = arith.addi %24, %27 : tensor<64x128xi32>
    %29 = tt.splat %0 : i32 -> tensor<64x128xi32>
    %30 = arith.muli %29, %cst_15 : tensor<64x128xi32>
    %31 = arith.addi %28, %30 : tensor<64x128xi32>
    %32 = tt.make_range {end = 128 : i32, start = 0 : i32} : tensor<128xi32>
    %33 = tt.expand_dims %32 {axis = 0 : i32} : tensor<128xi32> -> tensor<1x128xi32>
    %34 = tt.broadcast %33 : tensor<1x128xi32> -> tensor<64x128xi32>
    %35 = arith.addi %31, %34 : tensor<64x128xi32>
    %36 = tt.splat %arg1 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
    %37 = tt.addptr %36, %35 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
    %38 = tt.load %37, %22, %cst_14 : tensor<64x128x!tt.ptr<bf16>>
    %39 = tt.splat %arg2 : !tt.ptr<bf16> -> tensor<64x128x!tt.ptr<bf16>>
    %40 = tt.addptr %39, %35 : tensor<64x128x!tt.ptr<bf16>>, tensor<64x128xi32>
    %41 = tt.load %40, %22, %cst_14 : tensor<64x128x!tt.ptr<bf16>>
    %42 = tt.splat %1 : i32 -> tensor<64xi32>
    %43 = arith.muli %42, %cst_13 : tensor<64xi32>
    %44 = tt.splat %0 : i32 -> tensor<64xi32>
    %45 = arith.muli %44, %cst_18 : tensor<64xi32>
    %46 = arith.addi %43, %45 : tensor<64xi32>
    %47 = arith.addi %46, %19 : tensor<64xi32>
    %48 = tt.splat %arg3 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %49 = tt.addptr %48, %47 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    %50 = tt.load %49, %20, %cst_12 : tensor<64x!tt.ptr<f32>>
    %51 = tt.splat %arg4 : !tt.ptr<f32> -> tensor<64x!tt.ptr<f32>>
    %52 = tt.addptr %51, %47 : tensor<64x!tt.ptr<f32>>, tensor<64xi32>
    %53 = tt.load %52, %20, %cst_12 : tensor<64x!tt.ptr<f32>>
    %54 = scf.for %arg10 = %c0_i32 to %18 step %c1_i32 iter_args(%arg11 = %cst_11) -> (tensor<64x128xf32>)  : i32 {
      %58 = arith.muli %arg10, %c128_i32 : i32
      %59 = tt.splat %58 : i32 -> tensor<128xi32>
      %60 = arith.addi %59, %32 : tensor<128xi32>
      %61 = tt.splat %3 : i32 -> tensor<128xi32>
      %62 = arith.cmpi slt, %60, %61 : tensor<128xi32>
      %63 = tt.expand_dims %62 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
      %64 = tt.broadcast %63 : tensor<128x1xi1> -> tensor<128x128xi1>
      %65 = tt.splat %1 : i32 -> tensor<128x128xi32>
      %66 = arith.muli %65, %cst_10 : tensor<128x128xi32>
      %67 = tt.expand_dims %60 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
      %68 = tt.broadcast %67 : tensor<128x1xi32> -> tensor<128x128xi32>
      %69 = arith.muli %68, %cst_9 : tensor<128x128xi32>
      %70 = arith.addi %66, %69 : tensor<128x128xi32>
      %71 = tt.splat %0 : i32 -> tensor<128x128xi32>
      %72 = arith.muli %71, %cst_8 : tensor<128x128xi32>
      %73 = arith.addi %70, %72 : tensor<128x128xi32>
      %74 = tt.broadcast %33 : tensor<1x128xi32> -> tensor<128x128xi32>
      %75 = arith.addi %73, %74 : tensor<128x128xi32>
      %76 = tt.splat %arg5 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
      %77 = tt.addptr %76, %75 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
      %78 = tt.load %77, %64, %cst_7 : tensor<128x128x!tt.ptr<bf16>>
      %79 = tt.splat %arg6 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
      %80 = tt.addptr %79, %75 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
      %81 = tt.load %80, %64, %cst_7 : tensor<128x128x!tt.ptr<bf16>>
      %82 = tt.trans %38 {order = array<i32: 1, 0>} : tensor<64x128xbf16> -> tensor<128x64xbf16>
      %83 = tt.dot %78, %82, %cst_6, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x64xbf16> -> tensor<128x64xf32>
      %84 = tt.expand_dims %32 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
      %85 = tt.broadcast %84 : tensor<128x1xi32> -> tensor<128x64xi32>
      %86 = tt.splat %58 : i32 -> tensor<128x64xi32>
      %87 = arith.addi %86, %85 : tensor<128x64xi32>
      %88 = tt.splat %3 : i32 -> tensor<128x64xi32>
      %89 = arith.cmpi slt, %87, %88 : tensor<128x64xi32>
      %90 = arith.select %89, %83, %cst_5 : tensor<128x64xi1>, tensor<128x64xf32>
      %91 = tt.expand_dims %50 {axis = 0 : i32} : tensor<64xf32> -> tensor<1x64xf32>
      %92 = arith.subf %cst_4, %91 : tensor<1x64xf32>
      %93 = tt.broadcast %92 : tensor<1x64xf32> -> tensor<128x64xf32>
      %94 = tt.elementwise_inline_asm "fma.rn.f32 $0, $1, $2, $3;" {constraints = "=f,f,f,f", packed_element = 1 : i32, pure = true} %90, %cst_3, %93 : tensor<128x64xf32>, tensor<128x64xf32>, tensor<128x64xf32> -> tensor<128x64xf32>
      %95 = tt.elementwise_inline_asm "ex2.approx.ftz.f32 $0, $1;" {constraints = "=f,f", packed_element = 1 : i32, pure = true} %94 : tensor<128x64xf32> -> tensor<128x64xf32>
      %96 = tt.trans %41 {order = array<i32: 1, 0>} : tensor<64x128xbf16> -> tensor<128x64xbf16>
      %97 = tt.dot %81, %96, %cst_6, inputPrecision = tf32 : tensor<128x128xbf16> * tensor<128x64xbf16> -> tensor<128x64xf32>
      %98 = tt.expand_dims %53 {axis = 0 : i32} : tensor<64xf32> -> tensor<1x64xf32>
      %99 = tt.broadcast %98 : tensor<1x64xf32> -> tensor<128x64xf32>
      %100 = arith.subf %97, %99 : tensor<128x64xf32>
      %101 = arith.mulf %95, %100 : tensor<128x64xf32>
      %102 = arith.truncf %95 : tensor<128x64xf32> to tensor<128x64xbf16>
      %103 = arith.truncf %101 : tensor<128x64xf32> to tensor<128x64xbf16>
      %104 = tt.trans %103 {order = array<i32: 1, 0>} : tensor<128x64xbf16> -> tensor<64x128xbf16>
      %105 = tt.dot %104, %78, %cst_11, inputPrecision = tf32 : tensor<64x128xbf16> * tensor<128x128xbf16> -> tensor<64x128xf32>
      %106 = arith.addf %arg11, %105 : tensor<64x128xf32>
      %107 = tt.dot %102, %41, %cst_2, inputPrecision = tf32 : tensor<128x64xbf16> * tensor<64x128xbf16> -> tensor<128x128xf32>
      %108 = arith.cmpi slt, %60, %cst_1 : tensor<128xi32>
      %109 = tt.expand_dims %108 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
      %110 = tt.broadcast %109 : tensor<128x1xi1> -> tensor<128x128xi1>
      %111 = arith.truncf %107 : tensor<128x128xf32> to tensor<128x128xbf16>
      %112 = tt.splat %arg9 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
      %113 = tt.addptr %112, %75 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
      tt.store %113, %111, %110 : tensor<128x128x!tt.ptr<bf16>>
      %114 = tt.dot %103, %38, %cst_2, inputPrecision = tf32 : tensor<128x64xbf16> * tensor<64x128xbf16> -> tensor<128x128xf32>
      %115 = arith.mulf %114, %cst_0 : tensor<128x128xf32>
      %116 = arith.truncf %115 : tensor<128x128xf32> to tensor<128x128xbf16>
      %117 = tt.splat %arg8 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
      %118 = tt.addptr %117, %75 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
      tt.store %118, %116, %110 : tensor<128x128x!tt.ptr<bf16>>
      scf.yield %106 : tensor<64x128xf32>
    }
    %55 = arith.mulf %54, %cst : tensor<64x128xf32>
    %56 = tt.splat %arg7 : !tt.ptr<f32> -> tensor<64x128x!tt.ptr<f32>>
    %57 = tt.addptr %56, %35 : tensor<64x128x!tt.ptr<f32>>, tensor<64x128xi32>
    tt.store %57, %55, %22 : tensor<64x128x!tt.ptr<f32>>
    scf.for %arg10 = %18 to %c8_i32 step %c1_i32  : i32 {
      %58 = arith.muli %arg10, %c128_i32 : i32
      %59 = tt.splat %58 : i32 -> tensor<128xi32>
      %60 = arith.addi %59, %32 : tensor<128xi32>
      %61 = arith.cmpi slt, %60, %cst_1 : tensor<128xi32>
      %62 = tt.expand_dims %61 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
      %63 = tt.broadcast %62 : tensor<128x1xi1> -> tensor<128x128xi1>
      %64 = tt.splat %1 : i32 -> tensor<128x128xi32>
      %65 = arith.muli %64, %cst_10 : tensor<128x128xi32>
      %66 = tt.expand_dims %60 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
      %67 = tt.broadcast %66 : tensor<128x1xi32> -> tensor<128x128xi32>
      %68 = arith.muli %67, %cst_9 : tensor<128x128xi32>
      %69 = arith.addi %65, %68 : tensor<128x128xi32>
      %70 = tt.splat %0 : i32 -> tensor<128x128xi32>
      %71 = arith.muli %70, %cst_8 : tensor<128x128xi32>
      %72 = arith.addi %69, %71 : tensor<128x128xi32>
      %73 = tt.broadcast %33 : tensor<1x128xi32> -> tensor<128x128xi32>
      %74 = arith.addi %72, %73 : tensor<128x128xi32>
      %75 = tt.splat %arg8 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
      %76 = tt.addptr %75, %74 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
      tt.store %76, %cst_7, %63 : tensor<128x128x!tt.ptr<bf16>>
    }
    scf.for %arg10 = %18 to %c8_i32 step %c1_i32  : i32 {
      %58 = arith.muli %arg10, %c128_i32 : i32
      %59 = tt.splat %58 : i32 -> tensor<128xi32>
      %60 = arith.addi %59, %32 : tensor<128xi32>
      %61 = arith.cmpi slt, %60, %cst_1 : tensor<128xi32>
      %62 = tt.expand_dims %61 {axis = 1 : i32} : tensor<128xi1> -> tensor<128x1xi1>
      %63 = tt.broadcast %62 : tensor<128x1xi1> -> tensor<128x128xi1>
      %64 = tt.splat %1 : i32 -> tensor<128x128xi32>
      %65 = arith.muli %64, %cst_10 : tensor<128x128xi32>
      %66 = tt.expand_dims %60 {axis = 1 : i32} : tensor<128xi32> -> tensor<128x1xi32>
      %67 = tt.broadcast %66 : tensor<128x1xi32> -> tensor<128x128xi32>
      %68 = arith.muli %67, %cst_9 : tensor<128x128xi32>
      %69 = arith.addi %65, %68 : tensor<128x128xi32>
      %70 = tt.splat %0 : i32 -> tensor<128x128xi32>
      %71 = arith.muli %70, %cst_8 : tensor<128x128xi32>
      %72 = arith.addi %69, %71 : tensor<128x128xi32>
      %73 = tt.broadcast %33 : tensor<1x128xi32> -> tensor<128x128xi32>
      %74 = arith.addi %72, %73 : tensor<128x128xi32>
      %75 = tt.splat %arg9 : !tt.ptr<bf16> -> tensor<128x128x!tt.ptr<bf16>>
      %76 = tt.addptr %75, %74 : tensor<128x128x!tt.ptr<bf16>>, tensor<128x128xi32>
      tt.store %76, %cst_7, %63 : tensor<128x128x!tt.ptr<bf16>>
    }
    tt.return
  }
}
